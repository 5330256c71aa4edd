"""What might make the database quicker: proposals made of signs. None is told before it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from nvcops.core.units import Bytes, Ratio
from nvcops.core.workload import quoted

# --- Facts ---


class Setting(msgspec.Struct, frozen=True):
    """A setting as the server runs: its value in its own unit ("8kB", "kB", ""), and what a change of it takes.

    `altered`: ALTER SYSTEM has set it; otherwise its value comes from elsewhere, and comes back by RESET.
    """

    name: str
    value: str
    unit: str
    context: str
    altered: bool = False

    @property
    def needs_restart(self) -> bool:
        """Whether the server must be started anew for it."""
        return self.context == "postmaster"


class Churned(msgspec.Struct, frozen=True, kw_only=True):
    """A table whose rows change much; `scale_factor` and `fillfactor` are its own, empty: the server's."""

    schema: str
    table: str
    live: float
    dead: float
    updates: float = 0.0
    hot: float = 0.0
    scale_factor: str = ""
    fillfactor: str = ""

    @property
    def name(self) -> str:
        """With its schema, as SQL has it."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def title(self) -> str:
        """With its schema, for a person."""
        return f"{self.schema}.{self.table}"


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a server that may hint at something."""

    settings: tuple[Setting, ...] = ()
    temp_bytes: float = 0.0
    since_s: float = 0.0
    hit: float = 0.0
    read: float = 0.0
    churned: tuple[Churned, ...] = ()
    sessions: int = 0
    active: int = 0
    most: int = 0


# --- Rules ---


class Kind(StrEnum):
    """How it is tried: in a session, after a restart, or on a table."""

    SESSION = "session"
    RESTART = "restart"
    TABLE = "table"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be measured on the copy. `sign` says from what it comes.

    `relation` is the table's quoted name (TABLE).
    `settings` are tried (SESSION, RESTART); `prepare` is done on the copy before the second measurement (TABLE).
    `apply` is what the live database would be told, and `undo` what brings back what was.
    """

    kind: Kind
    subject: str
    was: str
    to: str
    sign: str
    relation: str = ""
    settings: Mapping[str, str] = {}
    prepare: tuple[str, ...] = ()
    apply: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it changes, and to what."""
        return f"{self.subject} = {self.to}"


_WORK_MEM_MAX_KB = 256 * 1024
_SHARED_MAX_PAGES = (8 << 30) // 8192
_HIT_WELL = 0.99
_DEAD_SHARE = 0.05
_HOT_SHARE = 0.8
_UPDATES_MIN = 10_000
_SCALE_FACTOR = "0.02"
_FILLFACTOR = "85"


def proposals(signs: Signs) -> list[Proposal]:
    """All that is worth a measurement, of settings first; each has its sign, none is a recommendation yet."""
    known = {setting.name: setting for setting in signs.settings}
    found = [*_memory(signs, known), *_planner(known), *_write(known)]
    return [*found, *(one for table in signs.churned for one in _table(table))]


def _memory(signs: Signs, known: Mapping[str, Setting]) -> list[Proposal]:
    """More memory for sorts and hashes where they spill; more for blocks where they are not found."""
    found = []
    if signs.temp_bytes and "work_mem" in known:
        sign = f"{Bytes(signs.temp_bytes)} of temporary files were written"
        sizes = [int(known["work_mem"].value) * factor for factor in (4, 16)]
        found += [of(known["work_mem"], str(size), sign) for size in sizes if size <= _WORK_MEM_MAX_KB]
    blocks = signs.hit + signs.read
    if blocks and signs.hit / blocks < _HIT_WELL and "shared_buffers" in known:
        pages = 2 * int(known["shared_buffers"].value)
        sign = f"{Ratio(round(signs.hit / blocks, 6))} of the blocks were found in memory"
        found += [of(known["shared_buffers"], str(pages), sign)] if pages <= _SHARED_MAX_PAGES else []
    return found


def _planner(known: Mapping[str, Setting]) -> list[Proposal]:
    """What the planner believes of the machine: only a measurement says what is true of this one.

    >>> [one.to for one in _planner({"jit": Setting("jit", "on", "", "user")})]
    ['off']
    >>> _planner({"jit": Setting("jit", "off", "", "user")})
    []
    """
    found = []
    if known.get("jit") and known["jit"].value == "on":
        found.append(of(known["jit"], "off", "short statements may be compiled for longer than they run"))
    if known.get("random_page_cost") and float(known["random_page_cost"].value) > 2:
        found.append(of(known["random_page_cost"], "1.1", "its value is one of rotating disks"))
    workers = known.get("max_parallel_workers_per_gather")
    if workers:
        others = {"0": "2"}.get(workers.value, "0")
        found.append(of(workers, others, "helpers cost their start, and a processor that somebody else may need"))
    return found


def _write(known: Mapping[str, Setting]) -> list[Proposal]:
    """How changes get into the log; "on" is another word for pglz, and is not what the server says then."""
    compression = known.get("wal_compression")
    if compression and compression.value == "off":
        return [of(compression, "pglz", "pages are written to the log as they are")]
    return []


def _table(table: Churned) -> list[Proposal]:
    """A table that is vacuumed too rarely, or whose updates touch its indexes for want of room.

    >>> often = Churned(schema="a", table="t", live=1e5, dead=6e3, updates=2e4, hot=1e4)
    >>> [one.to for one in _table(often)]
    ['autovacuum_vacuum_scale_factor=0.02', 'fillfactor=85']
    >>> _table(Churned(schema="a", table="t", live=1e5, dead=4e3, updates=2e4, hot=1.9e4))
    []
    """
    found = []
    if table.dead >= _DEAD_SHARE * table.live and not table.scale_factor:
        share = Ratio(round(table.dead / max(table.live + table.dead, 1), 3))
        prepare = (f"VACUUM (ANALYZE) {table.name}",)
        found.append(_option(table, "autovacuum_vacuum_scale_factor", _SCALE_FACTOR, f"{share} dead rows", prepare))
    if table.updates >= _UPDATES_MIN and table.hot < _HOT_SHARE * table.updates and not table.fillfactor:
        sign = f"{Ratio(round(table.hot / table.updates, 3))} of its updates stayed out of the indexes (HOT)"
        # As it is applied: no rewrite, so pages that are full stay so until their rows have moved.
        prepare = (f"ALTER TABLE {table.name} SET (fillfactor = {_FILLFACTOR})",)
        found.append(_option(table, "fillfactor", _FILLFACTOR, sign, prepare))
    return found


def _option(table: Churned, option: str, value: str, sign: str, prepare: tuple[str, ...]) -> Proposal:
    return Proposal(
        kind=Kind.TABLE,
        subject=table.title,
        was=f"{option} as the server's",
        to=f"{option}={value}",
        sign=sign,
        relation=table.name,
        prepare=prepare,
        apply=(f"ALTER TABLE {table.name} SET ({option} = {value})",),
        undo=(f"ALTER TABLE {table.name} RESET ({option})",),
    )


def of(setting: Setting, value: str, sign: str) -> Proposal:
    """A setting with another value, in its own unit.

    >>> of(Setting("work_mem", "4096", "kB", "user"), "16384", "it spills").to
    '16 MiB'
    """
    return Proposal(
        kind=Kind.RESTART if setting.needs_restart else Kind.SESSION,
        subject=setting.name,
        was=written(setting.value, setting.unit),
        to=written(value, setting.unit),
        sign=sign,
        settings={setting.name: value},
        apply=(f"ALTER SYSTEM SET {quoted(setting.name)} = '{value}'",),
        undo=(_back(setting),),
    )


def _back(setting: Setting) -> str:
    r"""What makes it what it was.

    >>> _back(Setting("jit", "on", "", "user")), _back(Setting("jit", "on", "", "user", altered=True))
    ('ALTER SYSTEM RESET "jit"', 'ALTER SYSTEM SET "jit" = \'on\'')
    """
    if setting.altered:
        return f"ALTER SYSTEM SET {quoted(setting.name)} = '{setting.value}'"
    return f"ALTER SYSTEM RESET {quoted(setting.name)}"


def written(value: str, unit: str) -> str:
    """A value for a person.

    >>> written("16384", "8kB"), written("1.1", ""), written("100", "ms")
    ('128 MiB', '1.1', '100 ms')
    """
    sizes = {"8kB": 8192, "kB": 1024, "MB": 1 << 20, "16MB": 16 << 20, "B": 1}
    if unit in sizes:
        return str(Bytes(int(value) * sizes[unit]))
    return f"{value} {unit}".strip()


def described(found: Sequence[Proposal]) -> list[str]:
    """One line each, for a rehearsal."""
    return [f"{one.subject}: {one.was} -> {one.to} ({one.sign})" for one in found]
