"""YAML of which each value knows its line, so that each mistake can say where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from nvcops.core.errors import ManifestError

T = TypeVar("T")
BYTES_MAX = 1 << 20
NODES_MAX = 50_000
DEPTH_MAX = 50
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


def read_yaml(text: str, path: Path) -> Line:
    """The document of a file.

    Raises:
        ManifestError: it is no YAML, or no mapping, or there is too much of it.
    """
    if len(text) > BYTES_MAX:
        raise ManifestError(f"{path}: {len(text):,} characters are more than {BYTES_MAX:,}", hint="split what it says")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ManifestError(f"{path}:{line}: this is not YAML: {error.problem}", hint="indent with spaces") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ManifestError(
            f"{path}: this is not YAML: {error}"[:300], hint="printable characters, not nested deeply"
        ) from None
    if node is None:
        raise ManifestError(f"{path}: the file is empty", hint="it has a `route` and `receivers`")
    _measure(node, path)
    return Line(node, path)


def _measure(node: yaml.Node, path: Path) -> None:
    """Aliases make a short text long, or endless: whoever walks it shall come to an end."""
    count, left = 0, [(node, 0)]
    while left:
        one, depth = left.pop()
        count += 1
        if count > NODES_MAX or depth > DEPTH_MAX:
            line = one.start_mark.line + 1
            raise ManifestError(
                f"{path}:{line}: it says too much, or is nested too deeply", hint="mind anchors and aliases"
            )
        if isinstance(one, yaml.SequenceNode):
            left += [(child, depth + 1) for child in one.value]
        elif isinstance(one, yaml.MappingNode):
            left += [(child, depth + 1) for pair in one.value for child in pair]


class Line:
    """A value of the document."""

    def __init__(self, node: yaml.Node, path: Path) -> None:
        self._node = node
        self._path = path

    @property
    def line(self) -> int:
        """On which line it begins, from 1."""
        return int(self._node.start_mark.line) + 1

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self._path}:{self.line}"

    def wrong(self, sentence: str, hint: str = "") -> ManifestError:
        """The error that something is wrong here."""
        return ManifestError(f"{self.place}: {sentence}", hint=hint)

    def table(self, *known: str) -> dict[str, Line]:
        """It as a mapping, all of whose keys are known where any are named.

        What is null is left out, as if it were not written.
        """
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("this is no mapping of keys to values", "write `key: value`, indented alike")
        own: dict[str, Line] = {}
        merged: dict[str, Line] = {}
        for key_node, value_node in self._node.value:
            key, value = Line(key_node, self._path), Line(value_node, self._path)
            name = key.text()
            if name in own:
                raise key.wrong(f"{name!r} stands there twice")
            if name == "<<":
                for other in value.rows() if isinstance(value_node, yaml.SequenceNode) else (value,):
                    merged = {**other.table(*known), **merged}
                continue
            if known and name not in known:
                raise key.wrong(f"unknown key {name[:60]!r}", f"known here: {', '.join(known)}")
            own[name] = value
        return {name: value for name, value in {**merged, **own}.items() if not value.empty}

    @property
    def empty(self) -> bool:
        """Whether nothing is written there: null."""
        return _null(self._node)

    def rows(self) -> Iterator[Line]:
        """It as a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong("this is no list", "write each entry after a `- `")
        return (Line(node, self._path) for node in self._node.value)

    def text(self) -> str:
        """It as text, as it is written: numbers and dates too."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.wrong("this is no single value")
        return "" if _null(self._node) else str(self._node.value)

    def flag(self) -> bool:
        """It as true or false."""
        said = self.text().lower()
        if said not in _TRUE | _FALSE:
            raise self.wrong(f"{said[:40]!r} is neither true nor false")
        return said in _TRUE

    def read(self, reader: Callable[[str], T]) -> T:
        """What a reader makes of the text; its ValueError becomes the error here."""
        return self.checked(lambda: reader(self.text()))

    def checked(self, reading: Callable[[], T]) -> T:
        """What is read; a ValueError becomes the error here."""
        try:
            return reading()
        except ValueError as error:
            raise self.wrong(str(error)) from None

    def file(self) -> Path:
        """It as a file's path, below the folder of this file where it is not absolute."""
        if not self.text():
            raise self.wrong("this names no file")
        return self._path.parent / self.text()


def _null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def rows_of(table: Mapping[str, Line], key: str) -> list[Line]:
    """The list under a key; empty where there is none."""
    return list(table[key].rows()) if key in table else []
