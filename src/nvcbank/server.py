"""One serving process: from settings to a graceful end."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import traceback
from contextlib import suppress
from pathlib import Path

import uvloop

from nvcbank import __version__
from nvcbank.api import customers, health, openapi, payments, sign_in, staff
from nvcbank.api.common import to_problem
from nvcbank.clock import Clock, rfc3339
from nvcbank.database import Pool
from nvcbank.errors import SettingError
from nvcbank.housekeeping import start_chores
from nvcbank.log import Log
from nvcbank.metrics import Metrics
from nvcbank.passwords import PasswordWork
from nvcbank.posting import Poster
from nvcbank.servers import Servers
from nvcbank.service import Service
from nvcbank.sessions import Sessions
from nvcbank.settings import ServeSettings
from nvcbank.web.listener import Listener
from nvcbank.web.message import Problem, Request, Response
from nvcbank.web.router import Route, Router

PATIENCE_S = 5.0


class Observer:
    """Counts and logs answers; a bug becomes a 500 whose trace is in the log and not in the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def answered(self, request: Request, status: int, seconds: float) -> None:
        """Count and log one answer."""
        metrics = self._service.metrics
        metrics.requests.add(request.route, request.method, status)
        metrics.seconds.observe(seconds, request.route)
        self._service.log.request(request.id, request.route, request.method, status, seconds)

    def problem(self, request: Request, error: Exception) -> Problem:
        """What to tell the client."""
        problem = to_problem(error)
        if problem is not None:
            return problem
        self._service.log.event("error", "bug", request.id, route=request.route, **_place(error))
        return Problem(500, "internal", "this is our mistake; it was logged with the request's id")


def serve(host: str, port: int, settings: ServeSettings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises:
        SettingError: when the port is taken or the log cannot be written.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # one file per client: take what we may
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # What is loaded now lives as long as the process, and requests leave no cycles: looking for them seldom is enough.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    return uvloop.run(_serve(host, port, settings))


async def _serve(host: str, port: int, settings: ServeSettings) -> int:
    clock = Clock(settings.clock_offset_s)
    log = Log(settings.log_path, settings.instance, clock)
    metrics = Metrics()
    servers = Servers(settings.database_url)
    reading = Pool(servers, f"nvcbank {settings.instance}", 4)
    posting = Pool(servers, f"nvcbank {settings.instance} posting", 2)
    service = Service(
        settings.instance,
        rfc3339(clock.now()),
        clock,
        log,
        metrics,
        reading,
        Sessions(settings.cache_url),
        PasswordWork(),
        release=settings.release,
    )
    metrics.build.update(version=__version__, release=settings.release)
    await reading.open()
    await posting.open()
    poster: Poster[Response] = Poster(posting, metrics, payments.render)
    router = Router(_routes(service, poster))
    listener = Listener(router, Observer(service))
    _add_gauges(metrics, {"reading": reading, "posting": posting}, poster, listener, log)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: _log_bug(log, context))
    stop = _stop_signals(log)
    chores = start_chores(service, poster)
    try:
        await listener.listen(host, port)
    except OSError as error:
        raise SettingError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another port") from None
    log.event("info", "server.started", version=__version__, release=settings.release, port=port)
    await stop.wait()
    service.draining = listener.draining = True  # the balancer sees it, and every answer sends its client away
    log.event("info", "server.draining")
    await asyncio.sleep(settings.drain_s)
    await listener.drain(PATIENCE_S)
    await poster.drain(PATIENCE_S)
    for chore in chores:
        chore.cancel()
        with suppress(asyncio.CancelledError):
            await chore
    await asyncio.gather(posting.close(), reading.close(), service.sessions.close())
    service.passwords.close()
    log.event("info", "server.stopped")
    log.close()
    return 0


def _log_bug(log: Log, context: dict[str, object]) -> None:
    """What no handler caught. The message of an exception may hold personal data, so only its place is logged."""
    error = context.get("exception")
    log.event("error", "bug", **(_place(error) if isinstance(error, Exception) else {"error": context.get("message")}))


def _known(error: Exception, *names: str) -> list[str]:
    return [str(getattr(error, name)) for name in names if getattr(error, name, None)]


def _place(error: Exception) -> dict[str, str]:
    """What it is and where it was raised: file and line of the last frames, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return {
        "error": " ".join([type(error).__name__, *_known(error, "sqlstate", "constraint_name")]),
        "where": " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames),
    }


def _routes(service: Service, poster: Poster[Response]) -> list[Route]:
    return [
        *health.routes(service),
        *openapi.routes(),
        *sign_in.routes(service),
        *customers.routes(service),
        *payments.routes(service, poster),
        *staff.routes(service),
    ]


def _stop_signals(log: Log) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, log.reopen)
    return stop


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _add_gauges(
    metrics: Metrics, pools: dict[str, Pool], poster: Poster[Response], listener: Listener, log: Log
) -> None:
    metrics.gauge("nvcbank_pool_size", "Connections allowed.", "pool", lambda: {n: p.size for n, p in pools.items()})
    metrics.gauge(
        "nvcbank_pool_open", "Connections open.", "pool", lambda: {n: p.open_connections for n, p in pools.items()}
    )
    metrics.gauge("nvcbank_pool_in_use", "Connections busy.", "pool", lambda: {n: p.in_use for n, p in pools.items()})
    metrics.gauge(
        "nvcbank_pool_waiting", "Who has no connection yet.", "pool", lambda: {n: p.waiting for n, p in pools.items()}
    )
    metrics.gauge("nvcbank_payments_waiting", "Payments not answered yet.", "", lambda: {"": poster.waiting})
    metrics.gauge("nvcbank_http_connections", "Clients connected.", "", lambda: {"": listener.connections})
    metrics.gauge("process_resident_memory_bytes", "Memory held.", "", lambda: {"": _resident_bytes()})
    metrics.gauge("nvcbank_log_dropped_lines", "Log lines that could not be written.", "", lambda: {"": log.dropped})
