"""Faults around the parts: a full disk, an expired certificate, somebody guessing passwords."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvclab.errors import PartFailed
from nvclab.faults.kind import Kind
from nvclab.platform_file import ARCHIVE_QUOTA

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre

FILLER = "filler.bin"
_QUOTA_BYTES = int(ARCHIVE_QUOTA.split()[0]) << 20
_CHUNK = b"\0" * (1 << 20)


@dataclass
class FullDisk:
    """The log archive, a folder with a small quota, is filled to `percent`."""

    centre: DataCentre
    percent: float

    def inject(self) -> str:
        size = int(_QUOTA_BYTES * self.percent / 100)
        with (self.centre.layout.archive / FILLER).open("wb") as filler:
            for start in range(0, size, len(_CHUNK)):
                filler.write(_CHUNK[: size - start])  # really written: a sparse file would fill nothing
        return f"{self.centre.layout.archive} holds {self.percent:g} % of its quota of {ARCHIVE_QUOTA}"

    def heal(self) -> str:
        (self.centre.layout.archive / FILLER).unlink(missing_ok=True)
        return "the archive has room again"


@dataclass
class ExpiredCertificate:
    """The front door shows a certificate that ended `days_ago`; HAProxy takes it without a restart."""

    centre: DataCentre
    days_ago: float

    def inject(self) -> str:
        now = dt.datetime.now(dt.UTC)
        lasts = dt.timedelta(days=90)
        start = now - dt.timedelta(days=self.days_ago) - lasts
        self._show(self.centre.authority.issue(start, lasts))
        return f"the bank's certificate expired {self.days_ago:g} days ago"

    def heal(self) -> str:
        self._show(self.centre.authority.server_file.read_text(encoding="ascii"))
        return "the bank's certificate is valid"

    def _show(self, pem: str) -> None:
        name = self.centre.authority.server_file
        said = self.centre.proxy.replace_certificate(name, pem)
        if "Success" not in said:
            raise PartFailed("HAProxy does not take the certificate.", hint=said.strip())


@dataclass
class SignInFlood:
    """Somebody tries passwords, `per_second` of them, for names from a list."""

    centre: DataCentre
    per_second: float
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def inject(self) -> str:
        self._thread = threading.Thread(target=self._try_all, name="sign-in flood", daemon=True)
        self._thread.start()
        return f"somebody tries {self.per_second:g} passwords a second"

    def heal(self) -> str:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        return "nobody tries passwords any more"

    def _try_all(self) -> None:
        while not self._over.wait(1 / self.per_second):
            self._try_one()

    def _try_one(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.centre.record.ports["http"], timeout=3)
        guess = {"login": f"guest-{secrets.randbelow(100_000)}@example.com", "password": secrets.token_hex(8)}
        try:
            connection.request("POST", "/v1/sessions", json.dumps(guess), {"Content-Type": "application/json"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return  # the bank is busy or down; an attacker tries again, too
        finally:
            connection.close()


KINDS = [
    Kind(
        "fill-disk",
        f"Fills the log archive, which has a quota of {ARCHIVE_QUOTA}, to `percent`.",
        "disks: log archive",
        lambda centre, options: FullDisk(centre, float(options["percent"])),
        {"percent": 95.0},
    ),
    Kind(
        "expire-certificate",
        "Puts a certificate on the front door that ended `days_ago`.",
        "certificates",
        lambda centre, options: ExpiredCertificate(centre, float(options["days_ago"])),
        {"days_ago": 1.0},
    ),
    Kind(
        "flood-sign-ins",
        "Tries `per_second` wrong passwords a second.",
        "security events: failed sign-ins",
        lambda centre, options: SignInFlood(centre, max(0.1, float(options["per_second"]))),
        {"per_second": 10.0},
    ),
]
