"""From a probe to whoever asks for it, by what the manifest says of the part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from nvcops.adapters.host import LocalHost
from nvcops.adapters.http import Address
from nvcops.adapters.postgres import PostgresServer
from nvcops.adapters.probes.asking import KEPT_UP_TO_S, Asker
from nvcops.adapters.probes.database import ReplicationAsker, Sessions, SlotAsker, SqlAsker
from nvcops.adapters.probes.parts import CacheAsker, ProxyAsker, ThreadAsker, disk_question, process_question
from nvcops.adapters.probes.payment import PaymentAsker
from nvcops.adapters.probes.web import HttpAsker, KeptConversation, TcpAsker, TlsAsker
from nvcops.adapters.programs import Programs
from nvcops.adapters.valkey import ValkeyServer
from nvcops.core.errors import NotFoundError, UsageError
from nvcops.core.manifest import Manifest, ServiceEntry
from nvcops.core.manifest.probe_options import (
    DiskOptions,
    HttpOptions,
    PaymentOptions,
    ProcessOptions,
    ProxyOptions,
    QueueOptions,
    ReplicationOptions,
    SqlOptions,
    TcpOptions,
    TlsOptions,
    read_options,
)
from nvcops.core.watch import Probe

_THREADS_MAX = 32
T = TypeVar("T")


class Makers:
    """Makes whoever asks. Disks and processes are asked in threads, which are started when they are needed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="probe")
        self._kinds = {
            "http": self._http,
            "tcp": self._tcp,
            "tls": self._tls,
            "sql": self._sql,
            "queue": self._queue,
            "replication": self._replication,
            "cache": self._cache,
            "proxy": self._proxy,
            "process": self._process,
            "disk": self._disk,
            "payment": self._payment,
        }

    def asker(self, probe: Probe) -> Asker:
        """Whoever asks for a probe.

        Raises:
            NvcopsError: the manifest names no such part, or a secret cannot be read.
            OSError: a certificate file cannot be read.
        """
        return self._kinds[probe.kind](probe)

    def close(self) -> None:
        """Let go of the threads; one that still waits ends by its own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _http(self, probe: Probe) -> Asker:
        options = _options(probe, HttpOptions)
        path = options.path or (self._service(probe).ready if options.url is None else "/")
        return HttpAsker(options, path, self._conversation(probe, options, options.instance))

    def _tcp(self, probe: Probe) -> Asker:
        return TcpAsker(_options(probe, TcpOptions))

    def _tls(self, probe: Probe) -> Asker:
        return TlsAsker(_options(probe, TlsOptions), probe.deadline)

    def _sql(self, probe: Probe) -> Asker:
        options = _options(probe, SqlOptions)
        return SqlAsker(options, self._sessions(probe, options.servers))

    def _queue(self, probe: Probe) -> Asker:
        options = _options(probe, QueueOptions)
        return SqlAsker(options, self._sessions(probe, options.servers))

    def _replication(self, probe: Probe) -> Asker:
        options = _options(probe, ReplicationOptions)
        if options.slot:
            return SlotAsker(options, self._sessions(probe, options.servers))
        return ReplicationAsker(options, self._sessions(probe, [options.standby] if options.standby else []))

    def _cache(self, probe: Probe) -> Asker:
        server = ValkeyServer.of(_there(self._manifest.cache, probe, "[cache]"))
        return CacheAsker(replace(server, deadline_s=probe.deadline), kept=_kept(probe))

    def _proxy(self, probe: Probe) -> Asker:
        return ProxyAsker(_there(self._manifest.proxy, probe, "[proxy]"), _options(probe, ProxyOptions))

    def _process(self, probe: Probe) -> Asker:
        control = Programs(msgspec.structs.replace(self._manifest.control, deadline=probe.deadline))
        return ThreadAsker(self._threads, process_question(control, _options(probe, ProcessOptions)))

    def _disk(self, probe: Probe) -> Asker:
        options = _options(probe, DiskOptions)
        entries = [entry for entry in self._manifest.disks if entry.name == options.disk]
        _there(entries or None, probe, f"disk {options.disk!r}")
        return ThreadAsker(self._threads, disk_question(LocalHost(entries, []), options))

    def _payment(self, probe: Probe) -> Asker:
        options = _options(probe, PaymentOptions)
        return PaymentAsker(options, self._conversation(probe, options))

    def _sessions(self, probe: Probe, names: Sequence[str]) -> Sessions:
        """Sessions to the named servers; to the primary where none is named."""
        entry = _there(self._manifest.database, probe, "[database]")
        named = {server.name: server for server in (entry.primary, *entry.standbys)}
        servers = [
            replace(
                PostgresServer.of(entry, _there(named.get(name), probe, f"server {name!r}")), deadline_s=probe.deadline
            )
            for name in names or [entry.primary.name]
        ]
        return Sessions(servers, kept=_kept(probe))

    def _conversation(
        self, probe: Probe, options: HttpOptions | PaymentOptions, instance: str | None = None
    ) -> KeptConversation:
        """With the options' own address, else the service's or the instance's."""
        url, ca_file = options.url, options.ca_file
        if url is None:
            service = self._service(probe)
            instances = {one.name: one.url for one in service.instances}
            url = _there(instances.get(instance), probe, f"instance {instance!r}") if instance else service.url
            ca_file = ca_file or service.ca_file
        return KeptConversation(_addresses(url, ca_file, probe.deadline), kept=_kept(probe))

    def _service(self, probe: Probe) -> ServiceEntry:
        named = {service.name: service for service in self._manifest.services}
        return _there(named.get(probe.service), probe, f"service {probe.service!r}")


def _addresses(url: str, ca_file: Path | None, deadline_s: float) -> Callable[[], Address]:
    """The address anew each time that it is connected to: by then the authorities' file may have been renewed."""
    return lambda: Address.of(url, ca_file, deadline_s)


def _options(probe: Probe, kind: type[T]) -> T:
    try:
        options = read_options(probe.kind, probe.options)
    except ValueError as error:
        raise UsageError(f"{probe.name}: {error}") from error
    if not isinstance(options, kind):
        raise UsageError(f"{probe.name}: these are not the options of a {probe.kind} probe")
    return options


def _there(part: T | None, probe: Probe, what: str) -> T:
    if part is None:
        raise NotFoundError(f"{probe.name} asks the {what}, which is not in platform.toml")
    return part


def _kept(probe: Probe) -> bool:
    return probe.interval <= KEPT_UP_TO_S
