"""What the types cannot say of probes: one that asks a part which is not there, options of another kind."""

from __future__ import annotations

from collections.abc import Iterator

from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.operations import ProbeEntry
from nvcops.core.manifest.probe_options import (
    CacheOptions,
    DiskOptions,
    HttpOptions,
    PaymentOptions,
    ProbeOptions,
    ProcessOptions,
    ProxyOptions,
    QueueOptions,
    ReplicationOptions,
    SqlOptions,
    read_options,
)
from nvcops.core.manifest.tables import Manifest


def watched(manifest: Manifest) -> Iterator[tuple[Place, str, str]]:
    """All of them in [[watch.probes]]: (place, sentence, hint)."""
    services = {service.name for service in manifest.services}
    for index, probe in enumerate(manifest.watch.probes):
        place: Place = ("watch", "probes", index)
        if probe.service is not None and probe.service not in services:
            hint = f"there: {', '.join(sorted(services)) or 'none'}"
            yield (*place, "service"), f"there is no service {probe.service!r}", hint
        try:
            options = read_options(probe.kind, probe.options)
        except ValueError as error:
            yield (*place, "options"), str(error), "platforms/nvc-bank/platform.toml has examples"
            continue
        sentences = [_of_the_database(options, manifest), *_of_other_parts(probe, options, manifest)]
        for sentence in filter(None, sentences):
            yield (*place, "options"), f"the probe {probe.name!r} {sentence}", "name what stands in this file"


def _of_the_database(options: ProbeOptions, manifest: Manifest) -> str:
    """What a probe needs of the database, and is not there; empty: nothing."""
    if not isinstance(options, SqlOptions | QueueOptions | ReplicationOptions):
        return ""
    if manifest.database is None:
        return "asks a database, and there is no [database]"
    asked = set(options.servers)
    if isinstance(options, ReplicationOptions):
        if (options.standby is None) == (not options.slot):
            return "looks at a `standby` or at a `slot`"
        asked |= {options.standby} if options.standby else set()
    unknown = asked - {server.name for server in (manifest.database.primary, *manifest.database.standbys)}
    return f"asks {min(unknown)!r}, which is no server of the database" if unknown else ""


def _of_other_parts(probe: ProbeEntry, options: ProbeOptions, manifest: Manifest) -> Iterator[str]:
    """What a probe needs of other parts, and is not there."""
    match options:
        case HttpOptions() | PaymentOptions() if options.url is None and probe.service is None:
            yield "has neither a service nor a `url`"
        case HttpOptions() if options.instance is not None and options.instance not in _instances(probe, manifest):
            yield f"asks {options.instance!r}, which is no instance of its service"
        case CacheOptions() if manifest.cache is None:
            yield "asks the cache, and there is no [cache]"
        case ProxyOptions() if manifest.proxy is None:
            yield "asks the proxy, and there is no [proxy]"
        case DiskOptions() if options.disk not in {disk.name for disk in manifest.disks}:
            yield f"looks at {options.disk!r}, which is none of [[disks]]"
        case ProcessOptions() if (options.part is None) == (options.pid_file is None):
            yield "looks at a `part` or at a `pid_file`"
        case ProcessOptions() if options.part is not None and not manifest.control.running:
            yield "asks whether a part runs, and [control] has no `running`"


def _instances(probe: ProbeEntry, manifest: Manifest) -> set[str]:
    return {one.name for service in manifest.services if service.name == probe.service for one in service.instances}
