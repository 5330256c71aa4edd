"""`nvcops init`: ask a platform what is there, and write its platform.toml."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import click

from nvcops.adapters.discovery.found import Note, Wishes
from nvcops.adapters.discovery.invoker import as_name, login_name
from nvcops.adapters.discovery.toml import render
from nvcops.cli.context import answer, json_option
from nvcops.core import manifest
from nvcops.core.errors import StateError, Unreachable, UsageError
from nvcops.core.manifest import CacheEntry, DatabaseEntry, Instance, Server

_FILE = "platform.toml"
_SEEN_BY_ALL = "a password on the command line is seen by everybody on the machine: name a file or a variable"
_path = click.Path(path_type=Path)


@click.command()
@click.option("--service", metavar="URL", default="", help="Where its customers reach it: https://shop.example.com")
@click.option(
    "--instance", "instances", metavar="NAME=URL", multiple=True, help="One of several behind it; repeatable."
)
@click.option("--ca-file", type=_path, help="The authority that signed its certificate, where the system has it not.")
@click.option("--database", metavar="URL", default="", help="postgresql://USER@HOST:PORT/DATABASE, the primary.")
@click.option("--database-password-file", type=_path, help="A file of mode 0600 with its password.")
@click.option("--database-password-env", metavar="NAME", help="An environment variable with its password.")
@click.option("--cache", metavar="URL", default="", help="valkey://HOST:PORT/0 or redis://...")
@click.option("--cache-password-file", type=_path, help="A file of mode 0600 with its password.")
@click.option("--cache-password-env", metavar="NAME", help="An environment variable with its password.")
@click.option("--proxy-socket", type=_path, help="HAProxy's runtime socket.")
@click.option("--log", type=_path, help="The service's log, JSON lines.")
@click.option("--name", default="", help="The platform's name in evidence and locks. Default: from the addresses.")
@click.option("--person", default="", help="Your name in the roster. Default: your login name.")
@click.option("--state", default="state", show_default=True, help="Where nvcops keeps its own files.")
@click.option("--output", type=_path, default=Path(_FILE), show_default=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@json_option
def init(output: Path, name: str, state: str, force: bool, as_json: bool, **asked: Any) -> None:
    """Ask a platform what is there, and write its platform.toml.

    What answers is written with what it said; what does not is left out, with a comment. Nothing is changed anywhere
    but in the file, and no password is ever written. Ends with 3, and writes nothing, where nothing answers.
    """
    from nvcops.adapters.discovery.platform import discover  # with the drivers, which no other command needs so early

    path = (output / _FILE if output.is_dir() else output).absolute()
    _may_write(path, force)
    wishes = _wishes(**asked)
    name = _name(name, "--name") if name else _suggested_name(wishes)
    found = discover(wishes)
    if found.service is None and found.database is None:
        raise Unreachable(
            f"neither a service nor a database answered, so {path} is not written{_reasons(found.notes)}",
            hint=next((note.hint for note in found.notes if not note.found and note.hint), ""),
        )
    text = render(found, name=name, title=name.replace("-", " ").title(), state=state)
    manifest.parse(text, path)
    _write(path, text, force)

    def lines() -> Iterator[str]:
        for note in found.notes:
            yield f"{'found  ' if note.found else 'missing'}  {note.part}: {note.text}"
            if note.hint:
                yield f"         {note.hint}"
        yield f"wrote    {path}"
        yield f"next     {_next(path)}"

    answer({"path": str(path), "name": name, "notes": found.notes, "next": _next(path)}, as_json, lines)


def _may_write(path: Path, force: bool) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} is not there", hint="--output names the file to write")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no ordinary file", hint="--output names the file to write")
    if path.exists() and not force:
        raise UsageError(f"{path} exists already", hint="--output names another file, --force writes over this one")


def _wishes(  # noqa: PLR0913 - one parameter for each flag
    *,
    service: str,
    instances: tuple[str, ...],
    ca_file: Path | None,
    database: str,
    database_password_file: Path | None,
    database_password_env: str | None,
    cache: str,
    cache_password_file: Path | None,
    cache_password_env: str | None,
    proxy_socket: Path | None,
    log: Path | None,
    person: str,
) -> Wishes:
    """The flags as addresses that were looked at; paths become absolute, because the file may lie elsewhere."""
    if not (service or database):
        raise UsageError(
            "nothing to ask: neither --service nor --database is given",
            hint="nvcops init --service https://shop.example.com --database postgresql://nvcops@db.example.com/shop",
        )
    if ca_file and not ca_file.is_file():
        raise UsageError(f"--ca-file {ca_file} is not there", hint="it is a file in PEM form")
    return Wishes(
        service=_service_url(service, "--service") if service else "",
        instances=tuple(_instance(written) for written in instances),
        ca_file=_absolute(ca_file),
        database=_database(database, database_password_file, database_password_env) if database else None,
        cache=_cache(cache, cache_password_file, cache_password_env) if cache else None,
        proxy_socket=_absolute(proxy_socket),
        log=_absolute(log),
        person=_name(person, "--person") if person else "",
    )


def _service_url(url: str, flag: str) -> str:
    parts = _parts(url, flag, ("http", "https"), "https://shop.example.com")
    if parts.query or parts.fragment:
        raise UsageError(f"{flag}: an address without ? and # is needed", hint="as in https://shop.example.com")
    return url.rstrip("/")


def _instance(written: str) -> Instance:
    name, found, url = written.partition("=")
    if not found:
        raise UsageError("--instance takes NAME=URL", hint="as in --instance shop-1=http://10.0.0.1:8080")
    return Instance(name=_name(name, "--instance"), url=_service_url(url, "--instance"))


def _database(url: str, password_file: Path | None, password_env: str | None) -> DatabaseEntry:
    example = "postgresql://nvcops@db.example.com:5432/shop"
    parts = _parts(url, "--database", ("postgresql", "postgres"), example)
    if parts.query or parts.fragment:
        raise UsageError("--database: parameters after ? are not taken", hint=f"as in {example}")
    user = unquote(parts.username or "") or login_name() or "nvcops"
    address = parts.netloc.rpartition("@")[2]
    folder = "%2f" in address.lower()  # a unix socket's folder, as libpq writes it
    host = unquote(address.partition(":")[0]) if folder else parts.hostname or "localhost"
    return DatabaseEntry(
        port=parts.port or 5432,
        name=unquote(parts.path.strip("/")) or user,
        user=user,
        password_file=_absolute(password_file),
        password_env=password_env or _usual_variable(password_file),
        primary=Server(name="db-1", host=host),
    )


def _usual_variable(password_file: Path | None) -> str | None:
    """The client library's own variable, where it is set and nothing else was named."""
    return "PGPASSWORD" if password_file is None and os.environ.get("PGPASSWORD") else None


def _cache(url: str, password_file: Path | None, password_env: str | None) -> CacheEntry:
    parts = _parts(url, "--cache", ("valkey", "redis"), "valkey://cache.example.com:6379/0")
    if parts.query or parts.fragment:
        raise UsageError("--cache: parameters after ? are not taken", hint="as in valkey://cache.example.com:6379/0")
    return CacheEntry(url=url, password_file=_absolute(password_file), password_env=password_env)


def _parts(url: str, flag: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """The parts of an address, without a password in it. The error never repeats the address: it may hold one."""
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if not port_is_number or parts.scheme not in schemes or not parts.netloc or re.search(r"\s", url):
        raise UsageError(f"{flag} takes an address like {example}", hint=f"it begins with {' or '.join(schemes)}://")
    if parts.password is not None or (parts.username and schemes[0] == "http"):
        raise UsageError(f"{flag}: {_SEEN_BY_ALL}", hint=f"nvcops init --help; the address is like {example}")
    return parts


def _name(written: str, flag: str) -> str:
    if as_name(written) != written:
        hint = f"as in {as_name(written)}" if as_name(written) else "as in shop"
        raise UsageError(f"{flag} takes lower case letters, digits, dots and hyphens, not {written!r}", hint=hint)
    return written


def _suggested_name(wishes: Wishes) -> str:
    """The first word of the service's host, where it has words; else the database's name."""
    host = urlsplit(wishes.service).hostname or ""
    first = "" if host == "localhost" or not re.search("[a-z]", host) or ":" in host else host.partition(".")[0]
    return as_name(first) or as_name(wishes.database.name if wishes.database else "") or "platform"


def _absolute(path: Path | None) -> Path | None:
    try:
        return path.expanduser().absolute() if path else None
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no such home folder", hint="write the whole path") from error


def _reasons(notes: tuple[Note, ...]) -> str:
    asked = [note.text for note in notes if not note.found and note.part in ("service", "database")]
    return "".join(f": {text}" for text in asked[:1]) + "".join(f"; {text}" for text in asked[1:])


def _write(path: Path, text: str, force: bool) -> None:
    """Write the file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _may_write(path, force)
        fresh.replace(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StateError(
            f"{path} cannot be written: {why}", hint="nothing was changed; --output names another"
        ) from error
    except UnicodeEncodeError as error:
        raise UsageError("a path or name is not UTF-8, and platform.toml is", hint="name it otherwise") from error
    finally:
        with contextlib.suppress(OSError):  # it has its own name by now, or never came to be
            fresh.unlink()


def _next(path: Path) -> str:
    return f"nvcops run daily-health-check --target {path}"
