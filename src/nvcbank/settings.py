"""Settings come from the environment; a secret may also stand in a file that `NAME_FILE` points to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nvcbank.errors import SettingError

Environment = Mapping[str, str]


@dataclass(frozen=True)
class ServeSettings:
    """What `nvcbank serve` needs to know. URLs are secrets: they hold passwords."""

    database_url: str
    cache_url: str
    instance: str
    log_path: Path | None
    clock_offset_s: float
    drain_s: float
    release: str = ""


def serve_settings(environment: Environment = os.environ) -> ServeSettings:
    """Read the settings of a serving process.

    Raises:
        SettingError: naming the variable that is missing or wrong.
    """
    log = environment.get("NVCBANK_LOG", "")
    return ServeSettings(
        database_url=database_url("NVCBANK_DATABASE_URL", environment),
        cache_url=_url("NVCBANK_CACHE_URL", ("valkey", "valkeys", "redis", "rediss"), environment),
        instance=_instance(environment.get("NVCBANK_INSTANCE", "nvcbank")),
        log_path=Path(log) if log else None,
        clock_offset_s=_number("NVCBANK_CLOCK_OFFSET_S", environment.get("NVCBANK_CLOCK_OFFSET_S", "0")),
        drain_s=_number("NVCBANK_DRAIN_S", environment.get("NVCBANK_DRAIN_S", "1")),
        release=_digest(environment.get("NVCBANK_RELEASE", "")),
    )


def database_url(name: str, environment: Environment = os.environ) -> str:
    """A PostgreSQL URL from the environment variable `name`, or from the file that `name`_FILE points to.

    It may name several servers, "host:port,host:port": then the primary among them is meant.
    """
    return _url(name, ("postgresql", "postgres"), environment)


def secret(name: str, environment: Environment = os.environ) -> str | None:
    """A secret from the variable `name`, or from the file that `name`_FILE points to, or None.

    Raises:
        SettingError: when the file cannot be read or is empty.
    """
    path = environment.get(f"{name}_FILE")
    if not path:
        return environment.get(name) or None
    try:
        written = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{name}_FILE cannot be read: {error}", hint="point it to a readable text file") from None
    if not written:
        raise SettingError(f"{name}_FILE points to an empty file", hint="write the secret into it")
    return written


def required_secret(name: str, what: str, environment: Environment = os.environ) -> str:
    """The secret, or a sentence that says what it is for."""
    found = secret(name, environment)
    if found is None:
        raise SettingError(f"{name} is not set", hint=f"set it, or {name}_FILE, to {what}")
    return found


def _url(name: str, schemes: tuple[str, ...], environment: Environment) -> str:
    url = required_secret(name, f"a {schemes[0]}:// URL", environment)
    if not _is_url(url, schemes):
        raise SettingError(f"{name} is not a {schemes[0]}:// URL", hint=f"{schemes[0]}://user:password@host:port/name")
    return url


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether it has one of the schemes, and each host a sane port.

    >>> [_is_url(f"redis://{hosts}/0", ("redis",)) for hosts in ("a", "a:1,b:2", "a:1,b:0", "a:x", "a:70000")]
    [True, True, False, False, False]
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    return parts.scheme in schemes and all(port.isdecimal() and 0 < int(port) < 65536 for port in ports)


def _instance(name: str) -> str:
    if not name.isascii() or not 1 <= len(name) <= 64 or not name.replace("-", "").replace(".", "").isalnum():
        raise SettingError("NVCBANK_INSTANCE is not a name", hint="1 to 64 letters, digits, dots and hyphens")
    return name


def _digest(written: str) -> str:
    """The artifact that this process was started from, or nothing.

    >>> _digest("ab" * 32) == "ab" * 32, _digest("")
    (True, '')
    """
    if written and not re.fullmatch("[0-9a-f]{64}", written):
        raise SettingError("NVCBANK_RELEASE is not a SHA-256", hint="64 hexadecimal digits of the release's artifact")
    return written


def _number(name: str, written: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise SettingError(f"{name} is not a number of seconds: {written!r}", hint='for example "-90"') from None
