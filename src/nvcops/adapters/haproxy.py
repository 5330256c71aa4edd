"""HAProxy through its runtime socket."""

from __future__ import annotations

import csv
import socket
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from nvcops.adapters.http import reason
from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable
from nvcops.core.target import ProxyServer

_ANSWER_BYTES_MAX = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxy:
    """One load balancer."""

    name: str
    socket: Path
    deadline_s: float

    def servers(self) -> list[ProxyServer]:
        """Every server of every backend."""
        return parse_statistics(self.ask("show stat"))

    def ask(self, command: str) -> str:
        """One command (or several with `;` between them) and its answer; HAProxy closes after it."""
        end, answer = monotonic() + self.deadline_s, bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self.deadline_s)
                connection.connect(str(self.socket))
                connection.sendall(f"{command}\n".encode())
                while chunk := connection.recv(1 << 16):
                    answer += chunk
                    if len(answer) > _ANSWER_BYTES_MAX:
                        raise Refused(f"{self.name} answers with more than {_ANSWER_BYTES_MAX} bytes")
                    connection.settimeout(max(end - monotonic(), 0.001))
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{self.name} ({self.socket}) did not answer within {self.deadline_s:g} s"
            ) from error
        except OSError as error:
            raise Unreachable(f"{self.name} ({self.socket}) does not answer: {reason(error)}") from error
        return answer.decode(errors="replace")


def parse_statistics(text: str) -> list[ProxyServer]:
    r"""Read the servers out of `show stat`.

    >>> text = "# pxname,svname,scur,status,lastchg,check_status,type,\nb,FRONTEND,1,OPEN,,,0,\nb,s1,2,UP,17,L7OK,2,\n"
    >>> parse_statistics(text)
    [ProxyServer(backend='b', server='s1', status='UP', check='L7OK', changed_s=17.0, sessions=2)]
    >>> parse_statistics("Permission denied")
    Traceback (most recent call last):
    nvcops.core.errors.Refused: the proxy did not show its servers: 'Permission denied'
    """
    return [
        ProxyServer(
            backend=row["pxname"],
            server=row["svname"],
            status=row["status"],
            check=row.get("last_chk") or row.get("check_status") or "",
            changed_s=float(row.get("lastchg") or 0),
            sessions=int(row.get("scur") or 0),
        )
        for row in server_rows(text)
    ]


def server_rows(text: str) -> list[dict[str, str]]:
    """The lines of `show stat` that are about servers, by the names of its columns.

    Raises:
        Refused: that is no answer to `show stat`.
    """
    if not text.startswith("# pxname,"):
        raise Refused(f"the proxy did not show its servers: {text.strip()[:80]!r}")
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return [row for row in rows if row.get("type") == "2"]
