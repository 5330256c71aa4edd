"""A backup of the configuration, compared with what is there now."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nvcops.adapters.backup.files_fetch import contents
from nvcops.adapters.backup.files_gather import configuration, is_secret
from nvcops.adapters.backup.files_index import FileIndex, Kept, Source, revision_of
from nvcops.adapters.backup.files_pack import looked_at
from nvcops.adapters.backup.repository import Repository
from nvcops.core.errors import StateError
from nvcops.core.files import Differences, FileChange

_TEXT_BYTES_MAX = 256 << 10
_LINES_MAX = 200
_CHANGES_MAX = 10_000
_SECRET = re.compile(r"(?i)(passw|secret|token|api_?key|private|credential)")
_VALUE = re.compile(r"([=:]\s*)\S.*")


class Pair(msgspec.Struct, frozen=True):
    """A path as it is now and as the backup has it; None: it is not there."""

    path: str
    now: Kept | None
    then: Kept | None

    @property
    def what(self) -> str:
        """What putting the backup back would do to it; empty where it is the same."""
        if self.now is None or self.then is None:
            return "create" if self.now is None else "remove"
        if (self.now.kind, self.now.sha256, self.now.link) != (self.then.kind, self.then.sha256, self.then.link):
            return "change"
        return "" if _owned(self.now) == _owned(self.then) else "permissions"


def compared(repository: Repository, index: FileIndex) -> tuple[list[Pair], str]:
    """What differs, by path, and a digest of how everything is now.

    Of what is there and is not in the backup only that counts which was not left out then, in folders of the backup.

    Raises:
        StateError: something cannot be read, or a folder stands where a file belongs.
    """
    entry = repository.entry
    there = configuration(entry.configuration, entry.configuration_secrets, encrypted=bool(repository.sealing.key))
    then = {file.name: file for file in index.files}
    named = {source.name for source in there.sources}
    folders = {file.name for file in index.files if file.kind == "folder"}
    ours = [source for source in there.sources if source.name in then or _within(source.name, folders)]
    ours += [Source(name, Path(f"/{name}")) for name in then if name not in named]  # what is no longer configuration
    ours = [source for source in ours if source.name in then or source.name not in index.left_out]
    found, cannot = looked_at(source for source in ours if os.path.lexists(source.path))
    if there.unreadable or cannot:
        raise StateError((there.unreadable + cannot)[0], hint="the configuration has to be readable")
    now = {kept.name: kept for _, kept in found if kept.kind != "folder" or kept.name in then}
    pairs = [Pair(name, now.get(name), then.get(name)) for name in sorted({*now, *then})]
    differing = [pair for pair in pairs if pair.what]
    if len(differing) > _CHANGES_MAX:
        raise StateError(f"more than {_CHANGES_MAX:,} files differ", hint="--into writes them into a folder")
    for pair in differing:
        if pair.now and pair.then and "folder" in (pair.now.kind, pair.then.kind) and pair.now.kind != pair.then.kind:
            raise StateError(f"/{pair.path} was a {pair.then.kind} and is a {pair.now.kind}", hint="move it away")
    return differing, revision_of(repository, list(now.values()))


def differences(repository: Repository, index: FileIndex, id: str) -> Differences:  # noqa: A002 - the catalogue's own word
    """The same for people: lines of texts, but none of secrets."""
    pairs, live = compared(repository, index)
    wanted = [pair.then for pair in pairs if pair.what == "change" and pair.then and _is_small(pair)]
    texts = contents(repository, [file for file in wanted if not _hidden(repository, file.name)])
    return Differences(
        id=id,
        live=live,
        files=sum(file.kind != "folder" for file in index.files),
        changes=tuple(
            FileChange(
                path=f"/{pair.path}",
                what=pair.what,
                secret=_hidden(repository, pair.path),
                lines=tuple(_lines(pair, texts)),
            )
            for pair in pairs
        ),
    )


def _within(name: str, folders: set[str]) -> bool:
    return any(parent.as_posix() in folders for parent in Path(name).parents)


def _owned(file: Kept) -> tuple[int, ...]:
    """Permissions, and owners where we could change them."""
    mode = 0 if file.kind == "link" else file.mode
    return (mode, file.uid, file.gid) if os.geteuid() == 0 else (mode,)


def _hidden(repository: Repository, name: str) -> bool:
    return is_secret(Path(name), repository.entry.configuration_secrets)


def _is_small(pair: Pair) -> bool:
    return all(
        file is not None and file.kind == "file" and file.size <= _TEXT_BYTES_MAX for file in (pair.now, pair.then)
    )


def _lines(pair: Pair, texts: Mapping[str, bytes]) -> Iterator[str]:
    """Lines that go and come, those with a password in them without it."""
    if pair.then is None or pair.then.name not in texts:
        return
    try:
        now = Path(f"/{pair.path}").read_bytes().decode()
        then = texts[pair.then.name].decode()
    except UnicodeDecodeError:
        return
    told = difflib.unified_diff(now.splitlines(), then.splitlines(), lineterm="", n=0)
    shown = [line for line in told if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    yield from (without_secret(line) for line in shown[:_LINES_MAX])
    if len(shown) > _LINES_MAX:
        yield f"... and {len(shown) - _LINES_MAX} more lines"


def without_secret(line: str) -> str:
    """A line of a configuration without the value that its name calls a secret.

    >>> without_secret('+ password = "hunter2"'), without_secret("+ workers = 4")
    ('+ password = (not shown)', '+ workers = 4')
    """
    return _VALUE.sub(r"\1(not shown)", line) if _SECRET.search(line) else line
