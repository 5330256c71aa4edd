"""Probes of the cache, the proxy, disks and processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

import valkey
from valkey.asyncio.connection import Connection, parse_url

from nvcops.adapters.haproxy import parse_statistics
from nvcops.adapters.http import reason
from nvcops.adapters.probes.asking import Exceeded, NotLooked
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.cluster import Control
from nvcops.core.errors import Refused, TargetError, Unreachable
from nvcops.core.manifest import ProxyEntry
from nvcops.core.manifest.probe_options import DiskOptions, ProcessOptions, ProxyOptions
from nvcops.core.target import Host
from nvcops.core.units import Ratio

_ANSWER_BYTES_MAX = 4 << 20


class CacheAsker:
    """A cache that answers a PING."""

    twice, patient = True, False

    def __init__(self, server: ValkeyServer, *, kept: bool) -> None:
        self._server, self._keep = server, kept
        self._kept: Connection | None = None

    async def ask(self, *, fresh: bool) -> float | None:
        """Ask; a kept connection that is gone is renewed once."""
        opened = self._kept is not None and self._kept.is_connected
        connection = self._new() if fresh or self._kept is None else self._kept
        if not fresh:
            self._kept = connection
        try:
            try:
                await self._pinged(connection)
            except (valkey.ConnectionError, OSError) as error:
                if fresh or not opened or isinstance(error, valkey.TimeoutError):
                    raise
                await self._pinged(connection)
        except valkey.ValkeyError as error:
            raise self._server.explained(error) from error
        except OSError as error:
            raise Unreachable(f"{self._server.name} does not answer: {reason(error)}") from error
        finally:
            if fresh or not self._keep:
                await connection.disconnect(nowait=True)
        return None

    def _new(self) -> Connection:
        about = parse_url(self._server.url.replace("valkey://", "redis://", 1))
        about.pop("connection_class", None)
        about |= {"password": self._server.password} if self._server.password else {}
        deadline_s = self._server.deadline_s
        return Connection(
            **about,
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            client_name="nvcops",
            lib_name=None,
            lib_version=None,
        )

    async def _pinged(self, connection: Connection) -> None:
        await connection.connect()  # type: ignore[no-untyped-call]  # the library's
        try:
            await connection.send_command("PING")
            answer = await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if answer != b"PONG":
            raise Refused(f"{self._server.name} answers {answer!r} to a PING")

    async def close(self) -> None:
        """Let go of the connection."""
        if self._kept is not None:
            await self._kept.disconnect(nowait=True)
            self._kept = None


class ProxyAsker:
    """A backend that has servers up, by what the proxy itself says. The figure is how many."""

    twice, patient = True, False

    def __init__(self, entry: ProxyEntry, options: ProxyOptions) -> None:
        self._entry, self._options = entry, options

    async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002 - the proxy closes after each answer
        """Ask the proxy for its servers."""
        where, backend = f"{self._entry.name} ({self._entry.socket})", self._options.backend
        try:
            text = await self._statistics()
        except OSError as error:
            raise Unreachable(f"{where} does not answer: {reason(error)}") from error
        servers = [server for server in parse_statistics(text) if server.backend == backend]
        up = sum(server.status.startswith("UP") or server.status == "no check" for server in servers)
        if up < self._options.servers_min:
            said = ", ".join(f"{server.server} {server.status}" for server in servers) or "it has none"
            raise Exceeded(f"{up} of {len(servers)} servers of {backend} are up: {said}", float(up))
        return float(up)

    async def _statistics(self) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._entry.socket))
        try:
            writer.write(b"show stat\n")
            return await _all(reader)
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """Nothing is kept."""


async def _all(reader: asyncio.StreamReader) -> str:
    answer = bytearray()
    while chunk := await reader.read(1 << 16):
        answer += chunk
        if len(answer) > _ANSWER_BYTES_MAX:
            raise Refused(f"the proxy answers with more than {_ANSWER_BYTES_MAX} bytes")
    return answer.decode(errors="replace")


class ThreadAsker:
    """Something that can only be asked in a way that waits: in a thread, by one at a time."""

    twice, patient = False, True

    def __init__(self, threads: Executor, question: Callable[[], float | None]) -> None:
        self._threads, self._question = threads, question

    async def ask(self, *, fresh: bool) -> float | None:  # noqa: ARG002 - nothing is kept
        """Ask in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._question)

    async def close(self) -> None:
        """Nothing is kept."""


def disk_question(host: Host, options: DiskOptions) -> Callable[[], float | None]:
    """How full a disk is, as a share; a disk that cannot be read is one that is not well."""

    def ask() -> float | None:
        disk = host.disk(options.disk)
        share = Ratio(disk.used / disk.size if disk.size else 1.0)
        if share >= options.used:
            raise Exceeded(f"{share} full, the limit is {options.used}", share)
        return share

    return ask


def process_question(control: Control, options: ProcessOptions) -> Callable[[], float | None]:
    """Whether a process runs, by the manifest's program or by a file with its number."""

    def ask() -> float | None:
        if options.pid_file is not None:
            _runs(options.pid_file)
        elif options.part is not None and not _running(control, options.part):
            raise Refused("does not run")
        return None

    return ask


def _running(control: Control, part: str) -> bool:
    try:
        return control.running(part)
    except TargetError as error:  # the program that should say it did not
        raise NotLooked(error.sentence) from error


def _runs(pid_file: Path) -> None:
    """A process that has ended and was not waited for does not run any more."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").split()[0])
    except FileNotFoundError as error:
        raise Refused(f"does not run: there is no {pid_file}") from error
    except (OSError, ValueError, IndexError) as error:
        raise NotLooked(f"{pid_file} does not hold the number of a process: {error}") from error
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        state = "" if not _signalled(pid) else "?"
    if state in ("", "Z", "X"):
        raise Refused(f"does not run: the process {pid} is gone")


def _signalled(pid: int) -> bool:
    """Whether there is such a process, where /proc does not say."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
