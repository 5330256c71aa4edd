"""Whether a release may run on the schema as it is. Pure: from what is applied, and from what releases know.

A migration *expands* (adds; the release before runs on) or *contracts* (removes what only older releases need). So a
release runs on any schema that has all of its expansions, and no contraction that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nvcops.core.releases import Migration, Release


class Applied(msgspec.Struct, frozen=True):
    """A migration that the database has: its file's name and digest."""

    name: str
    sha256: str


class Compatibility(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a release from running on a schema, and what is to be applied before, and long after, it starts."""

    refused: tuple[str, ...] = ()
    expand: tuple[str, ...] = ()
    contract: tuple[str, ...] = ()

    @property
    def now(self) -> bool:
        """Whether it could start this moment."""
        return not self.refused and not self.expand


def known_by(releases: Iterable[Release]) -> dict[str, Migration]:
    """All migrations that any release knows, by name; of two with one name, one that contracts."""
    known: dict[str, Migration] = {}
    for release in releases:
        for one in release.migrations:
            if one.name not in known or one.contract:
                known[one.name] = one
    return known


def compatible(release: Release, applied: Sequence[Applied], known: Mapping[str, Migration]) -> Compatibility:
    """Whether a release may run on a schema; `known` are the migrations of all releases, by which unknown ones count.

    >>> import datetime as dt
    >>> add, drop = Migration(name="1_add", sha256="a"), Migration(name="2_drop", sha256="d", contract=True)
    >>> def release(*migrations):
    ...     at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    ...     return Release(digest="r", name="bank", version="1", size=1, built=at, builder="ci", migrations=migrations)
    >>> has = {"1_add": add, "2_drop": drop}
    >>> compatible(release(add), [], has).expand, compatible(release(add, drop), [Applied("1_add", "a")], has).contract
    (('1_add',), ('2_drop',))
    >>> compatible(release(add), [Applied("1_add", "a"), Applied("2_drop", "d")], has).refused
    ('the schema is too new: 2_drop, which the release does not know, has removed what it may need',)
    >>> compatible(release(add), [Applied("1_add", "b")], has).refused
    ('1_add was changed since it was applied',)
    """
    ours = {one.name: one for one in release.migrations}
    there = {one.name: one.sha256 for one in applied}
    refused = [f"{name} was changed since it was applied" for name, one in ours.items() if _differs(one, there)]
    refused += [_unknown(name, known) for name in there if name not in ours and _removes(name, known)]
    pending = [one for one in release.migrations if one.name not in there]
    contract = tuple(one.name for one in pending if one.contract)
    expand = tuple(one.name for one in pending if not one.contract)
    if behind := _behind(pending):
        refused.append(f"{behind[1]} comes after {behind[0]}, which contracts: that is applied first, in its own time")
    return Compatibility(refused=tuple(refused), expand=expand, contract=contract)


def breaks(release: Release, contract: Iterable[str]) -> list[str]:
    """The contractions that a release does not know: after these it could not run any more.

    >>> import datetime as dt
    >>> at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    >>> old = Release(digest="r", name="bank", version="1", size=1, built=at, builder="ci")
    >>> breaks(old, ["2_drop"])
    ['2_drop']
    """
    ours = {one.name for one in release.migrations}
    return [name for name in contract if name not in ours]


def _differs(one: Migration, there: Mapping[str, str]) -> bool:
    return one.name in there and there[one.name] != one.sha256


def _removes(name: str, known: Mapping[str, Migration]) -> bool:
    """Whether an applied migration may have removed something: one that nobody knows may have."""
    return name not in known or known[name].contract


def _unknown(name: str, known: Mapping[str, Migration]) -> str:
    if name in known:
        return f"the schema is too new: {name}, which the release does not know, has removed what it may need"
    return f"the schema has {name}, which no release here knows: it may have removed anything"


def _behind(pending: Sequence[Migration]) -> tuple[str, str] | None:
    """A contraction that is not applied, and the first expansion that waits behind it."""
    contraction = ""
    for one in pending:
        if one.contract:
            contraction = contraction or one.name
        elif contraction:
            return contraction, one.name
    return None
