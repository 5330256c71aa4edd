"""Migrations: what the pending ones would lock (squawk), and whether the release before can live with them (our rules).

Pending are those that the release before does not know. Where there was no release before, nobody works on the schema
and no lock hurts: then only what the rules say of the files themselves counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nvcops.adapters.gates import sql
from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell, read_bytes, read_said
from nvcops.adapters.gates.process import run, tool
from nvcops.adapters.releases.contents import ABOUT, MIGRATIONS, read_contents
from nvcops.core.gates import GateLine, GateReport, judged
from nvcops.core.releases import Migration

# Matters of taste, and what our own rule says better: lock_timeout may be set by whoever applies the migrations.
_EXCLUDED = "prefer-*; require-statement-timeout; require-timeout-settings; require-lock-timeout; require-table-schema"
_SYNTAX = "syntax-error"
_SEEDED_SQL = f"SET lock_timeout = '1s';\nDROP TABLE {SEEDED};\n"


class Squawked(msgspec.Struct, frozen=True, kw_only=True):
    """One objection of squawk; its lines are counted from 0."""

    file: str
    line: int
    message: str
    rule_name: str
    help: str | None = None


def judge(asked: Asked) -> GateReport:
    """Look at all files, and at the pending ones closely."""
    if not asked.migrations:
        raise CannotTell("the release has no migrations: such a service needs no gate for them")
    folder = asked.folder / read_contents(read_bytes(asked.folder / ABOUT)).migrations_folder
    texts = {one.name: _text(folder, one) for one in asked.migrations}
    pending = [one for one in asked.migrations if one.name not in {old.name for old in asked.applied}]
    first = not asked.previous
    lines = history(asked.applied, asked.migrations) + order(pending)
    by_runner = asked.options.get("lock_timeout", "file") == "runner"
    for migration in pending:
        lines += sql.objections(migration, texts[migration.name], lock_timeout=not (first or by_runner))
    said = _squawk(asked, folder, pending) if pending else []
    lines += [line for line in said if line.rule == _SYNTAX or not first]
    passed = f"{len(asked.migrations)} migrations, {len(pending)} of them pending, no objection"
    return judged(lines, len(asked.migrations), "migrations", tool=_version(asked) if pending else "", passed=passed)


def history(applied: Sequence[Migration], migrations: Sequence[Migration]) -> list[GateLine]:
    """What was applied must stand in the new release as it was, and before what is new."""
    known = {one.name: one.sha256 for one in migrations}
    lines = [
        GateLine(rule="rewritten", text=f"{old.name} was changed after it was released", file=old.name)
        for old in applied
        if old.name in known and known[old.name] != old.sha256
    ]
    lines += [
        GateLine(rule="withdrawn", text=f"{old.name} is gone, and the release before had it", file=old.name)
        for old in applied
        if old.name not in known
    ]
    common = [one.name for one in migrations if one.name in {old.name for old in applied}]
    if not lines and [one.name for one in migrations][: len(common)] != common:
        lines.append(GateLine(rule="order", text="a new migration stands before one that was released already"))
    return lines


def order(pending: Sequence[Migration]) -> list[GateLine]:
    """What expands after something that contracts would not be applied before the rollback window has closed."""
    lines, contract = [], ""
    for migration in pending:
        if migration.contract:
            contract = contract or migration.name
        elif contract:
            text = f"{migration.name} waits for {contract}, which is applied after the rollback window only"
            lines.append(GateLine(rule="expand-after-contract", text=text, file=migration.name))
    return lines


def _text(folder: Path, migration: Migration) -> str:
    data = read_bytes(folder / migration.name)
    if hashlib.sha256(data).hexdigest() != migration.sha256:
        raise CannotTell(f"{migration.name} is not the file that the release names")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CannotTell(f"{migration.name} is not UTF-8") from error


def _squawk(asked: Asked, folder: Path, pending: Sequence[Migration]) -> list[GateLine]:
    argv = [tool(asked, "squawk"), "--reporter", "json"]
    if asked.options.get("transaction", "yes") == "yes":  # whoever applies them begins one for each file
        argv.append("--assume-in-transaction")
    if version := asked.options.get("postgres"):
        argv += ["--pg-version", version]
    excluded = asked.words("exclude", _EXCLUDED)
    ended = run([*argv, *(str(folder / one.name) for one in pending)], work=asked.work)
    if ended.code not in (0, 1):
        raise CannotTell(f"squawk ended with {ended.code}: {ended.said}")
    lines = read_squawk(ended.output.encode())
    if bool(lines) != bool(ended.code):
        raise CannotTell(f"squawk ended with {ended.code}, and its report has {len(lines)} objections")
    return [line for line in lines if not _excluded(line.rule, excluded)]


def read_squawk(data: bytes) -> list[GateLine]:
    """The objections in squawk's JSON.

    Raises:
        CannotTell: it is none.
    """
    return [_line(found) for found in read_said(data, list[Squawked], "squawk")]


def _line(found: Squawked) -> GateLine:
    name, line = Path(found.file).name, found.line + 1
    hint = f" ({found.help})" if found.help else ""
    return GateLine(rule=found.rule_name, text=f"{name}:{line}: {found.message}{hint}", file=name, line=line)


def _excluded(rule: str, excluded: Sequence[str]) -> bool:
    return any(rule.startswith(word[:-1]) if word.endswith("*") else rule == word for word in excluded)


def _version(asked: Asked) -> str:
    return run([tool(asked, "squawk"), "--version"], work=asked.work).output.strip()[:60]


def seed(asked: Asked) -> Asked:
    """A release whose new migration, said to expand only, drops a table."""
    name = f"0002_expand_{SEEDED}.sql"
    good = "CREATE TABLE good (id bigint PRIMARY KEY);\n"
    folder = Path(asked.work) / "seeded"
    (folder / MIGRATIONS).mkdir(parents=True, exist_ok=True)
    found = []
    for file, text in (("0001_expand_good.sql", good), (name, _SEEDED_SQL)):
        (folder / MIGRATIONS / file).write_text(text, encoding="utf-8")
        found.append(Migration(name=file, sha256=hashlib.sha256(text.encode()).hexdigest()))
    about = {"name": "seeded", "version": "1", "lock": "", "components": 0, "migrations_folder": MIGRATIONS}
    document = {**about, "migrations": found, "files": {}, "format": 1}
    (folder / ABOUT).write_bytes(msgspec.json.encode(document))
    return msgspec.structs.replace(
        asked, release=str(folder), previous=str(folder), migrations=tuple(found), applied=(found[0],)
    )
