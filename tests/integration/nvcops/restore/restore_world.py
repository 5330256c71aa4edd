"""A server that is backed up, with everything that restores of it need, for tests and drills; nothing remains of it."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "backup"))

import backup_world
from backup_world import FULL, INCREMENTAL, World

from nvclab.parts.postgres import Postgres
from nvclab.parts.process import free_ports
from nvcops.adapters.backup.clone import Clone
from nvcops.adapters.backup.repository import open_repository
from nvcops.adapters.backup.restores import NativeRestores
from nvcops.core.backups import RestoreTarget
from nvcops.core.manifest import Manifest
from nvcops.core.restores import Purpose, RestorePlan

__all__ = ["FULL", "INCREMENTAL", "RestoreWorld", "restore_world"]

_INVARIANTS = """
-- balanced: the transfers of all accounts sum up to nothing
SELECT sum(amount) FROM entry HAVING sum(amount) <> 0;

-- name: whole_transfers
-- Every transfer has two entries.
SELECT transfer FROM entry GROUP BY transfer HAVING count(*) <> 2;
"""
_SCHEMA = """
CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL UNIQUE, balance bigint NOT NULL CHECK (balance >= -1000));
CREATE TABLE entry (transfer text NOT NULL, account int NOT NULL REFERENCES account, amount bigint NOT NULL,
                    PRIMARY KEY (transfer, account));
INSERT INTO account SELECT n, 'owner ' || n, 0 FROM generate_series(1, 1000) n;
"""
_RESTORED = """
account = "nobody"
{key}
[recovery]
data = "{data}"
invariants = "{folder}/invariants.sql"
[recovery.acknowledgements]
journal = "{folder}/journal"
query = "SELECT DISTINCT transfer FROM entry WHERE transfer = ANY(%(keys)s)"
{more}
"""


@dataclass
class RestoreWorld:
    """The backed up server and what restores it."""

    world: World
    manifest: Manifest
    restores: NativeRestores
    folder: Path
    standby: Postgres | None = None

    def pay(self, *keys: str, tell: bool = True) -> None:
        """Commit transfers, and tell their customers."""
        for key in keys:
            self.world.execute(f"INSERT INTO entry VALUES ('{key}', 1, 5), ('{key}', 2, -5)")  # noqa: S608 - our own keys
            if tell:
                self.acknowledge(key)

    def acknowledge(self, key: str) -> None:
        line = f'{{"time": "{dt.datetime.now(dt.UTC).isoformat()}", "key": "{key}", "outcome": "settled"}}\n'
        with (self.folder / "journal").open("a", encoding="ascii") as journal:
            journal.write(line)

    def clock(self) -> dt.datetime:
        moment: dt.datetime = self.world.execute("SELECT clock_timestamp()")[0][0]
        return moment

    def end(self) -> str:
        """The position up to which everything is written; the repository gets it."""
        end: str = self.world.execute("SELECT pg_current_wal_lsn()::text")[0][0]
        return end

    def received(self) -> None:
        """Wait until the repository has all of the log."""
        position = self.world.execute("SELECT pg_create_restore_point('received')::text")[0][0]
        self.world.execute("SELECT pg_current_wal_flush_lsn()")
        receiver = self.world.backups.receiver
        asked = f"SELECT '{{}}'::pg_lsn >= '{position}'::pg_lsn"
        self.world.wait(lambda: (at := receiver().received_lsn) and self.world.execute(asked.format(at))[0][0])

    def plan(
        self,
        backup: str = FULL,
        to: RestoreTarget | None = None,
        *,
        run: str = "run@1",
        purpose: Purpose = Purpose.FOLDER,
    ) -> RestorePlan:
        into = self.folder / "restored" if purpose is Purpose.FOLDER else None
        return self.restores.plan(run, backup, to or RestoreTarget(), purpose=purpose, into=into)

    def restored(self, plan: RestorePlan) -> Path:
        """Unpack, replay and deliver."""
        self.restores.unpack(plan)
        self.restores.replay(plan)
        self.restores.deliver(plan)
        self.restores.forget(plan)
        assert plan.into is not None
        return plan.into

    @contextmanager
    def clone_of(self, data: Path) -> Iterator[str]:
        """A server over restored data; yields how to reach it."""
        work = self.folder / "looking"
        work.mkdir(exist_ok=True)
        tools = self.world.repository.tools(int((data / "PG_VERSION").read_text()))
        tools.give(work)
        with Clone(data=data, work=work, tools=tools, superuser="postgres").running(deadline_s=60) as conninfo:
            yield conninfo

    def left(self) -> list[str]:
        """What lies about that should not."""
        names = [path.name for path in self.folder.iterdir() if "restor" in path.name]
        names += [path.name for path in self.world.server.data.parent.iterdir() if "restor" in path.name]
        scratch = self.folder / "state" / "scratch"
        works = self.folder / "state" / "restores" / "works"
        for folder in (scratch, works):
            names += [path.name for path in folder.iterdir()] if folder.exists() else []
        return names


@contextmanager
def restore_world(
    folder: Path,
    *,
    encrypted: bool = False,
    settings: Mapping[str, str] | None = None,
    more: str = "",
    pair: bool = False,
) -> Iterator[RestoreWorld]:
    """A server with books, a ledger of acknowledgements, and no backup yet; `pair`: and a standby that follows it."""
    (folder / "invariants.sql").write_text(_INVARIANTS, encoding="ascii")
    (folder / "journal").touch()
    with backup_world.world(folder, encrypted=encrypted, settings=settings) as world, ExitStack() as parts:
        for statement in _SCHEMA.strip().split(";\n"):
            world.execute(statement)
        grant = "GRANT EXECUTE ON FUNCTION pg_wal_replay_pause, pg_wal_replay_resume TO nvcops_backup"
        world.execute(grant)
        standby = parts.enter_context(_following(world)) if pair else None
        key = backup_world.key_line(folder) if encrypted else ""
        backup_world.secret(folder / "super", world.server.password)
        manifest = backup_world.manifest_of(
            world.server,
            folder,
            access=f'password_file = "{folder}/super"',
            more=_RESTORED.format(folder=folder, key=key, data=world.server.data, more=more),
            standby=standby,
        )
        world.repository = open_repository(manifest)
        restores = NativeRestores(repository=world.repository, manifest=manifest, state=folder / "state" / "restores")
        yield RestoreWorld(world, manifest, restores, folder, standby)


@contextmanager
def _following(world: World) -> Iterator[Postgres]:
    """A standby of the world's server, beside it."""
    primary = world.server
    world.execute("SELECT pg_create_physical_replication_slot('db_2')")
    standby = Postgres(
        name="db-2",
        data=primary.data.with_name("standby"),
        logs=primary.logs,
        sockets=primary.sockets.with_name("standby-sockets"),
        port=free_ports(1)[0],
        password=primary.password,
        settings={
            "fsync": "off",
            "primary_slot_name": "db_2",
            "primary_conninfo": primary.conninfo(application_name="db-2"),
        },
        binaries=primary.binaries,
    )
    standby.clone(primary, "postgres", primary.password, "db_2")
    standby.start()
    try:
        yield standby
    finally:
        standby.stop()
