"""Who asks, and what time it is where they are: the account, its SSH key, the machine's time zone."""

from __future__ import annotations

import os
import pwd
import re
import zoneinfo
from pathlib import Path

from nvcops.adapters.discovery.found import Note, PersonFound
from nvcops.adapters.identity_ssh import home_folder
from nvcops.core.identity import fingerprint

_KEYS_MAX = 100
_KEY_BYTES_MAX = 10_000


def find_person(wished: str, notes: list[Note]) -> PersonFound:
    """The roster's first entry: a given name, else the invoking user's, with the SSH key in their home folder."""
    login, full_name, home = _account()
    name = wished or as_name(login) or "operator"
    for file in _public_keys(home):
        if line := _key_line(file):
            notes.append(Note("person", True, f"{name}, with the key {file}"))
            return PersonFound(name=name, full_name=full_name or name, key=line)
    hint = "ssh-keygen -t ed25519, then write the line of the .pub file into ssh_keys"
    notes.append(Note("person", False, f"{name} has no SSH key, so cannot attest or approve", hint))
    return PersonFound(name=name, full_name=full_name or name)


def _account() -> tuple[str, str, Path | None]:
    """Login, full name and home folder of the invoking user, as far as the system knows them."""
    try:
        entry = pwd.getpwuid(os.geteuid())
        login, full_name = entry.pw_name, entry.pw_gecos.split(",")[0].strip()
    except KeyError:  # a uid without an account, as containers have it
        login, full_name = "", ""
    login = os.environ.get("LOGNAME") or os.environ.get("USER") or login
    return login, full_name, home_folder()


def login_name() -> str:
    """What the invoking user is called; empty where nobody knows."""
    return _account()[0]


def _public_keys(home: Path | None) -> list[Path]:
    """The public keys of ~/.ssh, Ed25519 first."""
    if home is None or not os.access(home / ".ssh", os.R_OK | os.X_OK):
        return []
    files = (home / ".ssh").glob("*.pub")
    return sorted(files, key=lambda file: ("ed25519" not in file.name, file.name))[:_KEYS_MAX]


def _key_line(file: Path) -> str:
    """The public key in a file; empty where it holds none that can be read."""
    try:
        with file.open(encoding="utf-8") as lines:
            line = lines.readline(_KEY_BYTES_MAX).strip()
        fingerprint(line)
    except (OSError, ValueError):
        return ""
    return line


def as_name(words: str) -> str:
    """Words as a name of the manifest.

    >>> as_name("Ticket Shop_2"), as_name("--"), as_name("shop.example.com")
    ('ticket-shop-2', '', 'shop.example.com')
    """
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")[:63]


def system_time_zone(notes: list[Note]) -> str:
    """The machine's time zone by name: TZ, /etc/localtime, /etc/timezone; UTC where none of them names one."""
    known = zoneinfo.available_timezones()
    for place, name in _zone_names():
        if name in known:
            zone = "UTC" if name in ("Etc/UTC", "Etc/UCT", "UCT", "Zulu") else name
            notes.append(Note("time zone", True, f"{zone}, from {place}"))
            return zone
    notes.append(Note("time zone", False, "the machine names no time zone: UTC is written", "`time_zone` changes it"))
    return "UTC"


def _zone_names() -> list[tuple[str, str]]:
    names = [("TZ", os.environ.get("TZ", "").lstrip(":"))]
    link = os.path.realpath("/etc/localtime")
    names.append(("/etc/localtime", link.partition("/zoneinfo/")[2]))
    file = Path("/etc/timezone")
    if file.is_file() and os.access(file, os.R_OK):
        names.append((str(file), file.read_text(encoding="utf-8", errors="replace").strip()[:100]))
    return names
