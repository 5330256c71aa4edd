"""What each kind of probe may be told in its `options`. Pure; the example explains them, `read_options` checks them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from nvcops.core.manifest.base import HostAndPort, HttpPath, Name, Table, Url
from nvcops.core.units import Bytes, Quantity, Ratio, Seconds

AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]


class PathOptions(dict[str, Any]):
    """A probe's options as written; what ends in `_file` names a file, relative to the manifest's folder."""

    @classmethod
    def read(cls, written: object, folder: Path) -> PathOptions:
        """Make its files absolute.

        >>> PathOptions.read({"ca_file": "ca.pem", "path": "/x"}, Path("/etc"))
        {'ca_file': '/etc/ca.pem', 'path': '/x'}
        """
        if not isinstance(written, dict):
            raise ValueError(f"{written!r} is not a table")  # noqa: TRY004 - one error for the manifest
        files = {key for key, value in written.items() if key.endswith("_file") and isinstance(value, str)}
        return cls({key: str(folder / value) if key in files else value for key, value in written.items()})


class HttpOptions(Table, frozen=True, kw_only=True):
    """A GET: of `url`, else of the service's address, or of one of its instances."""

    url: Url | None = None
    instance: Name | None = None
    path: HttpPath | None = None  # left out: the service's readiness
    expect: Status = 200
    contains: str = ""
    ca_file: Path | None = None


class TcpOptions(Table, frozen=True, kw_only=True):
    """A connection."""

    address: HostAndPort


class TlsOptions(Table, frozen=True, kw_only=True):
    """A handshake as a customer makes it; the certificate is valid for at least `days` more."""

    address: HostAndPort
    name: str = ""  # left out: the address's host
    ca_file: Path | None = None
    days: float = 0


class SqlOptions(Table, frozen=True, kw_only=True):
    """A query of one of the manifest's database servers: the first of `servers` that answers and has that role.

    Its first column of its first row is the figure. Without a query it is asked for its role alone.
    """

    servers: tuple[Name, ...] = ()  # left out: the primary of the manifest
    role: Literal["primary", "standby", "any"] = "any"
    query: str = ""
    at_most: float | None = None
    at_least: float | None = None


class QueueOptions(Table, frozen=True, kw_only=True):
    """A query that counts what waits; more than `at_most` is trouble."""

    servers: tuple[Name, ...] = ()
    query: str
    at_most: float


class ReplicationOptions(Table, frozen=True, kw_only=True):
    """A `standby` that receives and replays, or a `slot` of the primary from which somebody receives."""

    standby: Name | None = None
    lag: Seconds = Seconds(60)
    slot: str = ""
    servers: tuple[Name, ...] = ()  # of a slot: the servers one of which is primary
    retained: Bytes = Bytes(4 << 30)


class CacheOptions(Table, frozen=True, kw_only=True):
    """The manifest's cache answers a PING."""


class ProxyOptions(Table, frozen=True, kw_only=True):
    """A backend of the manifest's proxy that has servers up."""

    backend: str
    servers_min: AtLeastOne = 1


class ProcessOptions(Table, frozen=True, kw_only=True):
    """A part that runs, as [control] running says, or the process whose number stands in `pid_file`."""

    part: Name | None = None
    pid_file: Path | None = None


class DiskOptions(Table, frozen=True, kw_only=True):
    """A disk of the manifest that is less full than `used`."""

    disk: str
    used: Ratio = Ratio(0.9)


class PaymentStep(Table, frozen=True, kw_only=True):
    """One request: a POST where there is a `body` (JSON), else a GET. `answer` is what must stand in its JSON answer.

    With `every` = n it is made in each n-th look only: what costs money or leaves rows need not be done each second.
    """

    path: HttpPath
    body: dict[str, Any] | None = None
    expect: Status = 200
    answer: dict[str, Any] = msgspec.field(default_factory=dict)
    every: AtLeastOne = 1


class PaymentOptions(Table, frozen=True, kw_only=True):
    """A customer's own way through the service: signs in once, then makes `steps` in each look.

    In the body of `sign_in`, the text `{password}` stands for what `password_file` holds. `token` names the field of
    its answer that is sent as bearer token. Each POST of a step has a new Idempotency-Key.
    """

    url: Url | None = None  # left out: the service's address
    ca_file: Path | None = None
    sign_in: PaymentStep | None = None
    password_file: Path | None = None
    token: str = "token"  # noqa: S105 - the name of a field
    steps: Annotated[tuple[PaymentStep, ...], msgspec.Meta(min_length=1, max_length=20)]


ProbeOptions = (
    HttpOptions
    | TcpOptions
    | TlsOptions
    | SqlOptions
    | QueueOptions
    | ReplicationOptions
    | CacheOptions
    | ProxyOptions
    | ProcessOptions
    | DiskOptions
    | PaymentOptions
)

KINDS: Mapping[str, type[ProbeOptions]] = {
    "http": HttpOptions,
    "tcp": TcpOptions,
    "tls": TlsOptions,
    "sql": SqlOptions,
    "queue": QueueOptions,
    "replication": ReplicationOptions,
    "cache": CacheOptions,
    "proxy": ProxyOptions,
    "process": ProcessOptions,
    "disk": DiskOptions,
    "payment": PaymentOptions,
}


def read_options(kind: str, options: Mapping[str, Any]) -> ProbeOptions:
    """A probe's options as types.

    Raises:
        ValueError: what is wrong with them.

    >>> read_options("proxy", {"backend": "bank"})
    ProxyOptions(backend='bank', servers_min=1)
    >>> read_options("proxy", {"backend": "bank", "servers": 2})
    Traceback (most recent call last):
    ValueError: options of a proxy probe: Object contains unknown field `servers`
    """
    try:
        return msgspec.convert(dict(options), KINDS[kind], dec_hook=_read)
    except msgspec.ValidationError as error:
        raise ValueError(f"options of a {kind} probe: {error}") from error


def _read(kind: type, written: object) -> object:
    if isinstance(written, kind):
        return written
    if kind is Path and isinstance(written, str):
        return Path(written)
    if issubclass(kind, Quantity):
        return kind.read(written)
    raise ValueError(f"{written!r} cannot stand here")
