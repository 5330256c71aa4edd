"""Vulnerabilities: pip-audit over the whole lock. What it skipped or could not ask about has not been looked at.

It says "no known vulnerabilities" of packages that it did not look at: the audited ones are counted, name by name.
"""

from __future__ import annotations

import datetime as dt
import re
from contextlib import nullcontext
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from nvcops.adapters.gates.advisories import read_advisories, seeded_advisory, serving
from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell, read_said
from nvcops.adapters.gates.made import lock_of, seeded_folder
from nvcops.adapters.gates.process import run, tool
from nvcops.adapters.releases.contents import LOCK
from nvcops.adapters.releases.lock import Locked
from nvcops.core.gates import GateLine, GateReport, judged

_FLAGS = ("--strict", "--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off", "--desc=off")
_KNOWN_BAD = "jinja2"  # in the control's version it has had advisories in every database for years
_IGNORED = re.compile(r"([A-Za-z0-9._-]+) until (\d{4}-\d{2}-\d{2})")


class Vulnerability(msgspec.Struct, frozen=True, kw_only=True):
    """One of pip-audit's report; `aliases` are its names in other databases."""

    id: str
    fix_versions: list[str]
    aliases: list[str]


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """A package of the report: audited in a version, or skipped for a reason."""

    name: str
    version: str | None = None
    vulns: list[Vulnerability] | None = None
    skip_reason: str | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The report."""

    dependencies: list[Audited]


def judge(asked: Asked) -> GateReport:
    """Audit the lock, against PyPI's advisories, those of `service`, or those of the file `advisories`."""
    auditor, lock = tool(asked, "pip-audit"), lock_of(asked.folder)
    ignored = _ignored(asked)
    file = asked.options.get("advisories")
    records = read_advisories(Path(file), asked.now, asked.seconds("max_age", "7 d")) if file else None
    if records is not None and asked.seeded:
        records = [*records, seeded_advisory(SEEDED)]
    with serving(records) if records is not None else nullcontext("") as url:
        service = (
            ["--vulnerability-service=osv", f"--osv-url={url}"]
            if url
            else [f"--vulnerability-service={asked.options.get('service', 'pypi')}"]
        )
        argv = [auditor, "-r", str(_pins(asked, lock)), *_FLAGS, *service, "--timeout=10"]
        argv.append(f"--cache-dir={asked.work}/cache")
        quiet = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} if url else {}
        ended = run(argv, work=asked.work, environment=quiet)
    if ended.code not in (0, 1) or not ended.output.strip():
        raise CannotTell(f"pip-audit could not look at everything: {ended.said}")
    lines = read_audit(ended.output.encode(), lock, ignored)
    if (ended.code == 1) < bool(lines):
        raise CannotTell("pip-audit ended with 0, and its report has vulnerabilities")
    return judged(lines, len(lock), "distributions", tool="pip-audit")


def read_audit(data: bytes, lock: dict[str, Locked], ignored: set[str]) -> list[GateLine]:
    """The vulnerabilities in a report.

    Raises:
        CannotTell: it is none, or not every distribution of the lock was audited in its version.
    """
    lines: list[GateLine] = []
    audited: dict[str, str] = {}
    for one in read_said(data, Audit, "pip-audit").dependencies:
        if one.skip_reason is not None or one.version is None or one.vulns is None:
            raise CannotTell(f"pip-audit skipped {one.name}: {(one.skip_reason or 'it does not say why')[:100]}")
        name = canonicalize_name(one.name)
        audited[name] = one.version
        lines += [_line(name, one.version, found) for found in one.vulns if not {found.id, *found.aliases} & ignored]
    missing = [name for name, locked in lock.items() if not _same(audited.get(name), locked.version)]
    if missing:
        raise CannotTell(f"pip-audit audited {len(lock) - len(missing)} of {len(lock)}, and not {missing[0]}")
    return lines


def _pins(asked: Asked, lock: dict[str, Locked]) -> Path:
    """All of the lock without hashes and markers: what another host would install is audited too."""
    path = Path(asked.work) / "audited.txt"
    path.write_text("".join(f"{name}=={locked.version}\n" for name, locked in lock.items()), encoding="utf-8")
    return path


def _same(audited: str | None, pinned: str) -> bool:
    try:
        return audited is not None and Version(audited) == Version(pinned)
    except InvalidVersion:
        return audited == pinned


def _line(name: str, version: str, found: Vulnerability) -> GateLine:
    fixed = ", ".join(found.fix_versions)
    text = f"{name} {version}: {found.id}, " + (f"fixed in {fixed}" if fixed else "not fixed yet")
    return GateLine(rule=found.id, text=text, file=LOCK)


def _ignored(asked: Asked) -> set[str]:
    """What somebody accepted until a day, which is the first on which it counts again."""
    found = set()
    for word in asked.words("ignore"):
        match = _IGNORED.fullmatch(word)
        if match is None:
            raise CannotTell(f"the option ignore says {word!r}: write ID until YYYY-MM-DD")
        try:
            if asked.now.date() < dt.date.fromisoformat(match[2]):
                found.add(match[1])
        except ValueError as error:
            raise CannotTell(f"the option ignore says {word!r}: there is no such day") from error
    return found


def seed(asked: Asked) -> Asked:
    """A lock with a package that every database knows; with a file of advisories, one that it is told of besides."""
    name = SEEDED if asked.options.get("advisories") else _KNOWN_BAD
    folder = seeded_folder(asked, (name,))
    options = {key: value for key, value in asked.options.items() if key != "ignore"}
    return msgspec.structs.replace(asked, release=str(folder), options=options)
