"""The program that sends through apprise: one process that has loaded it, and a copy of it for each message.

A copy ends itself when its time is over, whatever the service behind it does: apprise's own limits are those of single
reads, and a service that answers a byte now and then outlasts them. The program ends with whoever started it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from typing import Any

JOB_BYTES_MAX = 1 << 20
_SAID_MAX = 400


def main(descriptor: int) -> None:
    """Take a socket for each message from the socket `descriptor`, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides when it ends
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies are not waited for
    logging.getLogger().addHandler(logging.NullHandler())  # what apprise says goes to who asked, not to the terminal
    control = socket.socket(fileno=descriptor)
    _load()
    while True:
        _, sockets, _, _ = socket.recv_fds(control, 1, 1)
        if not sockets:
            return
        if os.fork() == 0:
            control.close()
            try:
                _carry_out(socket.socket(fileno=sockets[0]))
            finally:
                os._exit(0)
        os.close(sockets[0])


def _load() -> None:
    """What nearly every copy needs is loaded before it is made."""
    import apprise

    for url in ("json://localhost", "mailto://localhost?to=a@localhost.localdomain"):
        apprise.Apprise.instantiate(url)


def _carry_out(job: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with job, job.makefile("rb") as asked:
        signal.alarm(60)  # until it is known how long it may take
        wanted = json.loads(asked.read(JOB_BYTES_MAX))
        signal.setitimer(signal.ITIMER_REAL, wanted["deadline_s"])
        job.sendall(json.dumps(_send(**wanted)).encode())


def _send(*, url: str, subject: str, body: str, headers: dict[str, str], deadline_s: float) -> dict[str, Any]:
    """Send; {"sent", "said", "lasting"}: what apprise logged, and whether it is of no use to try again."""
    import apprise

    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as log:  # type: ignore[no-untyped-call]
        plain = url if "format=" in url else f"{url}{'&' if '?' in url else '?'}format=text"
        service = apprise.Apprise.instantiate(plain)
        if service is None:
            return {"sent": False, "said": "apprise knows no service of that address", "lasting": True}
        theirs = getattr(service, "headers", None)  # of e-mail and of plain HTTP; other services have none
        if isinstance(theirs, dict):
            theirs.update(headers)
        service.socket_read_timeout = service.socket_connect_timeout = deadline_s
        through = apprise.Apprise()
        through.add(service)
        sent = bool(through.notify(body=body, title=subject, body_format=apprise.NotifyFormat.TEXT))
        return {"sent": sent, "said": log.getvalue().strip()[:_SAID_MAX], "lasting": False}


if __name__ == "__main__":
    main(int(sys.argv[1]))
