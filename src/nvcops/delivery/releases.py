"""What two releases differ in, and which of the kept ones may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from nvcops.core.releases import Component, Inventory, Migration, Release


class Updated(msgspec.Struct, frozen=True, kw_only=True):
    """A component that both releases have, in two versions or under two licences."""

    name: str
    old: Component
    new: Component


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What the new release brings against the old one; `changed` are files of the service's own.

    `rewritten` are migrations of one name that are not the same any more: such a release fits no database that the
    old one was on. `withdrawn` are those that the new release does not know: going there is going back.
    """

    added: tuple[Component, ...] = ()
    removed: tuple[Component, ...] = ()
    updated: tuple[Updated, ...] = ()
    new_migrations: tuple[Migration, ...] = ()
    rewritten: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    new_files: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    removed_files: tuple[str, ...] = ()
    same_lock: bool = True

    @property
    def contracts(self) -> bool:
        """Whether it brings a migration that removes what the old release may need."""
        return any(migration.contract for migration in self.new_migrations)

    @property
    def nothing(self) -> bool:
        """Whether both are the same but for their version."""
        return self == Difference()


def difference(old: Inventory, new: Inventory) -> Difference:
    """What the new release brings against the old one."""
    before, after = _by_name(old.components), _by_name(new.components)
    known = {migration.name: migration.sha256 for migration in old.release.migrations}
    brought = {migration.name: migration.sha256 for migration in new.release.migrations}
    own_before, own_after = _own(old.files), _own(new.files)
    both = sorted(own_before.keys() & own_after.keys())
    return Difference(
        added=tuple(after[name] for name in sorted(after.keys() - before.keys())),
        removed=tuple(before[name] for name in sorted(before.keys() - after.keys())),
        updated=tuple(
            Updated(name=name, old=before[name], new=after[name])
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
        new_migrations=tuple(one for one in new.release.migrations if one.name not in known),
        rewritten=tuple(name for name in known if name in brought and brought[name] != known[name]),
        withdrawn=tuple(name for name in known if name not in brought),
        new_files=tuple(sorted(own_after.keys() - own_before.keys())),
        changed_files=tuple(path for path in both if own_before[path] != own_after[path]),
        removed_files=tuple(sorted(own_before.keys() - own_after.keys())),
        same_lock=old.release.lock == new.release.lock,
    )


def removable(releases: Sequence[Release], keep: int, in_use: Collection[str]) -> tuple[Release, ...]:
    """Those that may be removed, the oldest first: not the newest `keep`, and none whose digest is in use.

    What is in use (in a slot, warm, in a rollout that has not ended) does not count towards those that are kept: there
    are always `keep` of the newest to go back to.

    Raises:
        ValueError: keep is less than 1.
    """
    if keep < 1:
        raise ValueError(f"at least one release is kept, not {keep}")
    newest_first = sorted(releases, key=lambda release: (release.built, release.digest), reverse=True)
    return tuple(release for release in reversed(newest_first[keep:]) if release.digest not in in_use)


def _by_name(components: Sequence[Component]) -> Mapping[str, Component]:
    return {component.name: component for component in components}


def _own(files: Mapping[str, str]) -> Mapping[str, str]:
    """The service's own files, without those that are made for the artifact.

    >>> _own({"app/bank/main.py": "1", "requirements.txt": "2", "sbom.cdx.json": "3"})
    {'app/bank/main.py': '1'}
    """
    return {path: digest for path, digest in files.items() if path.startswith(("app/", "migrations/"))}
