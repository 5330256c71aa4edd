"""Reading what strangers send: each mistake says where in the document it stands."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from nvcops.core.alerts import LABEL_BYTES_MAX, LABELS_MAX
from nvcops.core.errors import UsageError

ALERTS_MAX = 10_000  # in one request
ANNOTATIONS_MAX = 64
ANNOTATION_LENGTH_MAX = 4_096
URL_LENGTH_MAX = 2_048
_SHOWN = 60
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def document(body: bytes) -> At:
    """The JSON of a body.

    Raises:
        UsageError: it is none.
    """
    try:
        return At(msgspec.json.decode(body), "")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not JSON: {error}", hint="Content-Type: application/json, in UTF-8") from None
    except RecursionError:
        raise UsageError(
            "the body is not JSON that anybody sends: it is nested too deeply", hint="flatten it"
        ) from None


def kind_of(value: object) -> str:
    """What a value of JSON is, in words.

    >>> kind_of(None), kind_of([]), kind_of(True)
    ('nothing', 'a list', 'true or false')
    """
    return _KINDS.get(type(value), "nothing")


def printable(text: str) -> str:
    r"""Text that every store and terminal takes.

    >>> printable("a\x00b\x1b[31m\nc")
    'a�b�[31m\nc'
    """
    return _NOT_TEXT.sub("�", text)


class At:
    """A value, and where in the document it stands."""

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def wrong(self, sentence: str, hint: str = "") -> UsageError:
        """The error that something is wrong here."""
        return UsageError(f"{self.path or 'the body'} {sentence}", hint=hint)

    def __getitem__(self, name: str) -> At:
        return At(self.object().get(name), f"{self.path}.{name[:_SHOWN]}".lstrip("."))

    def __contains__(self, name: str) -> bool:
        return self.object().get(name) is not None

    def object(self) -> dict[str, Any]:
        """It as an object."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"is {kind_of(self.value)}, not an object")
        return self.value

    def each(self) -> Iterator[At]:
        """What stands in a list."""
        if not isinstance(self.value, list):
            raise self.wrong(f"is {kind_of(self.value)}, not a list")
        if len(self.value) > ALERTS_MAX:
            raise self.wrong(
                f"has {len(self.value):,} entries, more than {ALERTS_MAX:,}", "send them in several requests"
            )
        return (At(value, f"{self.path}[{index}]") for index, value in enumerate(self.value))

    def text(self, default: str | None = "") -> str:
        """It as text; `default` where nothing stands, which is an error where that is None."""
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            raise self.wrong("is missing" if self.value is None else f"is {kind_of(self.value)}, not text")
        return printable(self.value)

    def one_of(self, *words: str, default: str | None = None) -> str:
        """It as one of some words."""
        text = self.text(default)
        if text not in words:
            raise self.wrong(f"is {text[:_SHOWN]!r}", f"one of: {', '.join(words)}")
        return text

    def url(self) -> str:
        """It as an address on the web; any other, or one that is too long, is left out: it would lead astray."""
        text = self.text()
        return text if text.startswith(("http://", "https://")) and len(text) <= URL_LENGTH_MAX else ""

    def moment(self) -> dt.datetime | None:
        """It as a moment in UTC; None where nothing stands, or Go's zero."""
        text = self.text()
        if not text or text.startswith("0001-01-01T"):
            return None
        try:
            if not _MOMENT.match(text):
                raise ValueError(text)  # noqa: TRY301 - one answer for every way of being wrong
            moment = dt.datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            pass
        raise self.wrong(f"is {text[:_SHOWN]!r}, no moment", "RFC 3339 with a time zone, as in 2026-11-22T16:05:00Z")

    def labels(self) -> dict[str, str]:
        """It as labels: few, short, of text; what is empty is not there.

        Raises:
            UsageError: naming the label.
        """
        if self.value is None:
            return {}
        there = self.object()
        if len(there) > LABELS_MAX:
            raise self.wrong(
                f"has {len(there):,} labels, more than {LABELS_MAX}", "put what nobody routes by in annotations"
            )
        labels = {name: value for name in there if (value := self._label(name))}
        size = sum(len(name.encode()) + len(value.encode()) for name, value in labels.items())
        if size > LABEL_BYTES_MAX:
            raise self.wrong(f"has {size:,} bytes, more than {LABEL_BYTES_MAX:,}", "put long text in annotations")
        return labels

    def _label(self, name: str) -> str:
        if not name or printable(name) != name:
            raise self.wrong(f"has a label of the name {name[:_SHOWN]!r}", "a name is text, as in `severity`")
        return self[name].text()

    def annotations(self) -> dict[str, str]:
        """It as annotations: what is not text becomes JSON, what is too long is cut, since an alert matters more."""
        if self.value is None:
            return {}
        kept = list(self.object().items())[:ANNOTATIONS_MAX]
        return {printable(name)[:_SHOWN]: cut(as_text(value)) for name, value in kept if name}


def as_text(value: Any) -> str:
    """Any value of JSON as text.

    >>> as_text("a"), as_text({"a": 1}), as_text(None)
    ('a', '{"a":1}', '')
    """
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def cut(text: str, most: int = ANNOTATION_LENGTH_MAX) -> str:
    """Text, cut where it is too long.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"
