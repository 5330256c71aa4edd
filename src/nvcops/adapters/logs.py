"""Logs of JSON lines, streamed, rotated files included: a service's (`time`, `event`), PostgreSQL's jsonlog."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast
from zoneinfo import ZoneInfo

import msgspec

from nvcops.adapters.http import reason
from nvcops.core.errors import Refused, Unreachable
from nvcops.core.postgres_time import PostgresTime
from nvcops.core.target import MALFORMED, LogEvent

_LINE_BYTES_MAX = 1 << 20
_FILES_MAX = 100
_SEARCH_FROM_BYTES = 4 << 20
_SLACK_BYTES = 1 << 16  # lines of several writers may stand a little out of order
_ROTATED = re.compile(r"[.-]\d[\d_-]*(\.gz)?")


class Format(Protocol):
    """How one kind of log writes its lines."""

    def head(self, line: bytes) -> tuple[dt.datetime, str]:
        """Time and name of a line's event; ValueError when it is none."""
        ...


class ServiceFormat:
    """A service's log: `time` in RFC 3339, `event` by name."""

    class _Line(msgspec.Struct):
        time: dt.datetime
        event: str = ""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(self._Line).decode

    def head(self, line: bytes) -> tuple[dt.datetime, str]:
        """Time and name of a line's event."""
        read = self._decode(line)
        time = read.time if read.time.tzinfo else read.time.replace(tzinfo=dt.UTC)
        return time, read.event


class PostgresFormat:
    """PostgreSQL's jsonlog. An event is named by its severity: "postgresql.fatal", "postgresql.log".

    Its times carry the abbreviation of log_timezone, which only means something in the platform's own zone, or in UTC.
    """

    class _Line(msgspec.Struct):
        timestamp: str
        error_severity: str = "LOG"

    def __init__(self, zone: ZoneInfo) -> None:
        self._time = PostgresTime(zone)
        self._decode = msgspec.json.Decoder(self._Line).decode

    def head(self, line: bytes) -> tuple[dt.datetime, str]:
        """Time and name of a line's event."""
        read = self._decode(line)
        return self._time.read(read.timestamp), f"postgresql.{read.error_severity.lower()}"


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The logs that the manifest names: path and format by source."""

    files: Mapping[str, tuple[Path, Format]]

    @property
    def sources(self) -> Sequence[str]:
        """Their names."""
        return list(self.files)

    def events(
        self, source: str, start: dt.datetime, end: dt.datetime, names: Collection[str] = ()
    ) -> Iterator[LogEvent]:
        """The events of a source between two moments, rotated files included, oldest file first."""
        form = self.files[source][1]
        time = start
        with self._opened(source, start) as files:
            for file in files:
                _skip_to(file, form, start)
                for line in _lines(file):
                    event = _event(source, form, line, time, names)
                    time = event.time if event else time
                    if event and start <= event.time < end and (not names or event.event in (*names, MALFORMED)):
                        yield event

    def begins(self, source: str) -> dt.datetime | None:
        """The time of the first event that is still there."""
        form = self.files[source][1]
        with self._opened(source, dt.datetime.fromtimestamp(0, dt.UTC)) as files:
            return next((time for file in files if (time := _time_after(file, form, 0)) is not None), None)

    @contextmanager
    def _opened(self, source: str, start: dt.datetime) -> Iterator[list[IO[bytes]]]:
        path = self.files[source][0]
        try:
            with ExitStack() as stack:
                yield _opened(path, start, stack)
        except FileNotFoundError as error:
            raise Unreachable(f"the log {path} of {source} is not there") from error
        except EOFError as error:
            raise Unreachable(f"a rotated file of {path} is cut short") from error
        except OSError as error:
            raise Unreachable(f"the log {path} of {source} cannot be read: {reason(error)}") from error


def _event(source: str, form: Format, line: bytes, before: dt.datetime, names: Collection[str]) -> LogEvent | None:
    """One line as an event; its fields are read only where somebody wants them. None for an empty line."""
    if not line.strip():
        return None
    try:
        time, name = form.head(line)
        fields = msgspec.json.decode(line) if not names or name in names else {}
    except ValueError:  # msgspec's errors are some
        return LogEvent(before, source, MALFORMED, {})
    return LogEvent(time, source, name, fields)


def _opened(path: Path, start: dt.datetime, stack: ExitStack) -> list[IO[bytes]]:
    """The log and its rotated files, oldest first, without those that ended before `start`; each once.

    All are opened before the first is read: a rotation in the middle then moves names, but no lines. One that happens
    while they are being opened is seen, and they are opened again.
    """
    for _ in range(3):
        files = [stack.enter_context(name.open("rb")) for name in family(path)]
        opened = [os.fstat(file.fileno()) for file in files]
        if [_identity(status) for status in opened] == [_identity(name.stat()) for name in family(path)]:
            break
    young = [(status.st_mtime_ns, file) for status, file in zip(opened, files, strict=True)]
    young = [(age, file) for age, file in young if age >= start.timestamp() * 1e9]
    return [_unpacked(file) for _, file in sorted(young, key=lambda pair: pair[0])]


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if str(file.name).endswith(".gz") else file


def family(path: Path) -> list[Path]:
    """The log and its rotated files: log.1, log.2.gz, log-20260701.gz."""
    rotated = [
        name
        for name in path.parent.glob(f"{_escaped(path.name)}[.-]*")
        if _ROTATED.fullmatch(name.name[len(path.name) :])
    ]
    if len(rotated) > _FILES_MAX:
        raise Refused(f"{path} has more than {_FILES_MAX} rotated files beside it", hint="scripts/rotate_logs.sh")
    return [path, *sorted(rotated)]


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Whole lines; one that is too long comes as its beginning, and one that is still being written does not come."""
    while line := file.readline(_LINE_BYTES_MAX):
        if line.endswith(b"\n"):
            yield line
        elif len(line) == _LINE_BYTES_MAX:
            yield line
            while rest := file.readline(_LINE_BYTES_MAX):
                if rest.endswith(b"\n"):
                    break


def _skip_to(file: IO[bytes], form: Format, start: dt.datetime) -> None:
    """In a long plain file, go near the first line that is not before `start`, by halving."""
    if isinstance(file, gzip.GzipFile):
        return
    low, high = 0, os.fstat(file.fileno()).st_size
    while high - low > _SEARCH_FROM_BYTES:
        middle = (low + high) // 2
        time = _time_after(file, form, middle)
        if time is not None and time < start:
            low = middle
        else:
            high = middle
    file.seek(max(low - _SLACK_BYTES, 0))
    if low > _SLACK_BYTES:
        file.readline(_LINE_BYTES_MAX)  # the rest of the line that we fell into


def _time_after(file: IO[bytes], form: Format, offset: int) -> dt.datetime | None:
    """The time of the first readable line after an offset; None when the next ones tell none."""
    file.seek(offset)
    if offset:
        file.readline(_LINE_BYTES_MAX)  # the rest of the line that we fell into
    for _ in range(20):
        try:
            return form.head(file.readline(_LINE_BYTES_MAX))[0]
        except ValueError:
            continue
    return None
