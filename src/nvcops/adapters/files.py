"""Files that an operator wrote: platform.toml, and the secrets and certificates that it names."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from nvcops.core.errors import ManifestError
from nvcops.core.manifest import Manifest, line_of, parse

_MANIFEST_BYTES_MAX = 1 << 20
_SECRET_BYTES_MAX = 4096
Place = tuple[str | int, ...]


def load_manifest(path: Path) -> Manifest:
    """Read platform.toml and look at the files that it names.

    Raises:
        ManifestError: with file, line and what to do.
    """
    path = path.absolute()
    text = _text(path)
    manifest = parse(text, path)
    for place, file in _certificate_authorities(manifest):
        with _at(path, text, place):
            _check_authorities(file)
    for place, file in _password_files(manifest):
        with _at(path, text, place):
            read_secret(file)
    return manifest


def secret(password_file: Path | None, password_env: str | None) -> str | None:
    """The secret that a table of the manifest names; None where it names none.

    Raises:
        ManifestError: it cannot be read, others may read it, or it is empty.
    """
    if password_file is not None:
        return read_secret(password_file)
    if password_env is None:
        return None
    if not os.environ.get(password_env):
        raise ManifestError(
            f"the environment variable {password_env} is not set, and platform.toml takes a password from it",
            hint=f"export {password_env}=... where nvcops is started",
        )
    return os.environ[password_env]


def read_secret(file: Path) -> str:
    """The first line of a file that only its owner may read."""
    try:
        mode = file.stat().st_mode
        if mode & 0o077:
            raise ManifestError(
                f"{file} holds a password, and others may read it (mode {mode & 0o777:04o})",
                hint=f"chmod 0600 '{file}'",
            )
        with file.open(encoding="utf-8") as opened:
            first = opened.readline(_SECRET_BYTES_MAX).rstrip("\r\n")
    except OSError as error:
        raise ManifestError(f"{file} cannot be read: {_why(error)}", hint="the password belongs into it") from error
    except UnicodeDecodeError:
        raise ManifestError(f"{file} is not UTF-8", hint="the password belongs into it, as one line of text") from None
    if not first:
        raise ManifestError(f"{file} is empty", hint="the password belongs into it, as one line of text")
    return first


def routing_text(manifest: Manifest) -> str | None:
    """The text of the file that [alerts] routing names; None where it names none.

    Raises:
        ManifestError: it cannot be read.
    """
    return _text(manifest.alerts.routing) if manifest.alerts.routing else None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MANIFEST_BYTES_MAX:
            raise ManifestError(
                f"{path} is larger than {_MANIFEST_BYTES_MAX} bytes: it is no platform.toml",
                hint="--target names it; `nvcops init` writes one",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError(
            f"there is no file {path}", hint="--target names it; `nvcops init` writes one, platforms/ has an example"
        ) from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {_why(error)}", hint="platform.toml is a text file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}:{line}: this is not UTF-8", hint="save the file as UTF-8") from None


class _at:  # noqa: N801 - reads as a preposition
    """Say on which line of the manifest a mistake was found."""

    def __init__(self, path: Path, text: str, place: Place) -> None:
        self._where = f"{path}:{line_of(text, place)}: {place[-1]}"

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ManifestError):
            raise ManifestError(f"{self._where}: {error.sentence}", hint=error.hint) from error


def _certificate_authorities(manifest: Manifest) -> Iterator[tuple[Place, Path]]:
    if manifest.database and manifest.database.ca_file:
        yield ("database", "ca_file"), manifest.database.ca_file
    if manifest.records.ca_file:
        yield ("records", "ca_file"), manifest.records.ca_file
    for table in ("services", "certificates"):
        for index, entry in enumerate(getattr(manifest, table)):
            if entry.ca_file is not None:
                yield (table, index, "ca_file"), entry.ca_file


def _password_files(manifest: Manifest) -> Iterator[tuple[Place, Path]]:
    for table in ("database", "cache", "backups", "records"):
        entry = getattr(manifest, table)
        if entry is not None and entry.password_file is not None:
            yield (table, "password_file"), entry.password_file
    if manifest.database and manifest.database.upkeep and manifest.database.upkeep.password_file:
        yield ("database", "upkeep", "password_file"), manifest.database.upkeep.password_file
    if manifest.backups and manifest.backups.key_file:
        yield ("backups", "key_file"), manifest.backups.key_file
    if manifest.watch.heartbeat_url_file:
        yield ("watch", "heartbeat_url_file"), manifest.watch.heartbeat_url_file
    for index, probe in enumerate(manifest.watch.probes):
        if "password_file" in probe.options:
            yield ("watch", "probes", index, "options"), Path(probe.options["password_file"])
    if manifest.alerts.token_file:
        yield ("alerts", "token_file"), manifest.alerts.token_file
    yield from _address_files(manifest)


def _address_files(manifest: Manifest) -> Iterator[tuple[Place, Path]]:
    """Where the addresses stand by which people are reached: tokens and passwords of gateways are in them."""
    for table in ("people", "contacts"):
        for index, one in enumerate(getattr(manifest, table)):
            for number, contact in enumerate(one.contacts):
                if contact.url_file is not None:
                    yield (table, index, "contacts", number, "url_file"), contact.url_file


def _check_authorities(file: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise ManifestError(f"{file} holds no certificates", hint="it is a file in PEM form") from None
    except OSError as error:
        raise ManifestError(f"{file} cannot be read: {_why(error)}", hint="it is a file in PEM form") from error


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def secrets(manifest: Manifest) -> list[str]:
    """Every secret that a manifest names, so that they can be kept out of what is written."""
    upkeep = manifest.database.upkeep if manifest.database else None
    named = (manifest.database, upkeep, manifest.cache, manifest.backups, manifest.records)
    tables = [table for table in named if table]
    from_environment = [secret(None, table.password_env) for table in tables if not table.password_file]
    from_files = [read_secret(file) for _, file in _password_files(manifest)]
    in_addresses = [password for value in from_files if (password := _password_in(value))]
    return [*filter(None, from_environment), *from_files, *in_addresses]


def _password_in(address: str) -> str | None:
    try:
        return urlsplit(address).password
    except ValueError:  # a secret need not be an address
        return None
