"""What a migration does, as far as our rules ask: whether it only adds, and whether it waits for its locks."""

from __future__ import annotations

import re

from nvcops.core.gates import GateLine
from nvcops.core.releases import Migration

# Comments, quoted names and texts, and bodies between dollars, in the order in which they may begin.
_PARTS = re.compile(
    r"(?P<line>--[^\n]*)|(?P<block>/\*)|(?P<text>[eE]?'(?:[^'\\]|''|\\.)*')|(?P<name>\"(?:[^\"]|\"\")*\")"
    r"|(?P<dollar>\$(?:[A-Za-z_]\w*)?\$)",
    re.DOTALL,
)
_SPACE = re.compile(r"\s+")
_REMOVES = (
    ("drop", re.compile(r"^drop (?!not null)(\w+)", re.IGNORECASE)),
    ("truncate", re.compile(r"^truncate\b", re.IGNORECASE)),
    ("delete", re.compile(r"^(with .*)?\bdelete from\b", re.IGNORECASE)),
    ("rename", re.compile(r"^alter .*\brename\b", re.IGNORECASE)),
    ("drop-column", re.compile(r"^alter (foreign )?table .*\bdrop (column|constraint)\b", re.IGNORECASE)),
    (
        "drop-column",
        re.compile(r"^alter table (if exists )?(only )?\S+ (.*, )?drop (?!not null|default|expression)", re.IGNORECASE),
    ),
    ("drop-default", re.compile(r"^alter table .*\bdrop default\b", re.IGNORECASE)),
    ("change-type", re.compile(r"^alter table .*\balter (column )?\S+ (set data )?type\b", re.IGNORECASE)),
    ("not-null", re.compile(r"^alter table .*\bset not null\b", re.IGNORECASE)),
    ("detach", re.compile(r"^alter table .*\bdetach partition\b", re.IGNORECASE)),
    ("disable", re.compile(r"^alter table .*\bdisable (trigger|rule)\b", re.IGNORECASE)),
    ("move", re.compile(r"^alter .*\bset schema\b", re.IGNORECASE)),
)
_ADDED = re.compile(
    r"\badd (?:column )?(?:if not exists )?(?!constraint|check|unique|primary|foreign|exclude)(.*)",
    re.IGNORECASE,
)
_DYNAMIC = re.compile(r"\bexecute\b(?!\s+(function|procedure|on)\b)", re.IGNORECASE)
_TIMEOUT = re.compile(r"^set (local |session )?lock_timeout ?(=|to) ?(?=\S)(?!'?0+ ?[a-z]*'?$|default)", re.IGNORECASE)
_PLAIN_TEXT = re.compile(r"'\d+ ?[a-z]{0,3}'")  # a time: it is kept, other texts say nothing
_SETS = re.compile(r"^(set|reset|begin|start|commit)\b", re.IGNORECASE)
_DO = re.compile(r"^do\b", re.IGNORECASE)


def objections(migration: Migration, text: str, *, lock_timeout: bool) -> list[GateLine]:
    """What our rules say of a migration that is pending; `lock_timeout`: the file itself must set it."""
    found = statements(text)
    if not found:
        return [_line("empty", migration, f"{migration.name} has no statement")]
    lines = [] if migration.contract else [line for one in found for line in _removes(migration, one)]
    if lock_timeout and (late := _without_timeout(found)):
        lines.append(_line("lock-timeout", migration, f"{migration.name} sets no lock_timeout before: {late[:80]}"))
    return lines


def statements(text: str) -> list[str]:
    r"""The statements, one line each, without comments; texts are '' and bodies of functions are $$.

    What a DO block does is done at once: it follows as statements of its own.

    >>> statements("SELECT 'a;b' -- ;\n FROM t; /* x /* y */ ; */ DO $x$ BEGIN DROP TABLE t; END $x$;")
    ["SELECT '' FROM t", 'DO $$', 'DROP TABLE t', 'END']
    """
    plain, bodies = _plain(text)
    found = []
    for raw in plain.split(";"):
        count = raw.count("$$")
        mine, bodies = bodies[:count], bodies[count:]
        statement = _SPACE.sub(" ", raw).strip()
        if statement:
            found.append(statement)
        if _DO.match(statement):
            inner = (one for body in mine for one in statements(body))
            found += [word for one in inner if (word := _bare(one))]
    return found


def _bare(statement: str) -> str:
    """A statement of a body without the words of the language around it."""
    words = re.compile(
        r"^(declare\b.*|begin|loop|then|else|exception when .* then|if .*? then|for .*? loop)\b", re.IGNORECASE
    )
    before = ""
    while before != statement:
        before, statement = statement, words.sub("", statement).strip()
    return statement


def _plain(text: str) -> tuple[str, list[str]]:
    """The text with nothing in it that could be taken for a statement's end, and the bodies that were cut out."""
    kept, bodies, place = [], [], 0
    while match := _PARTS.search(text, place):
        kept.append(text[place : match.start()])
        place = match.end()
        kind = match.lastgroup
        if kind == "block":
            place = _end_of_comment(text, place)
            kept.append(" ")
        elif kind == "dollar":
            end = text.find(match[0], place)
            bodies.append(text[place : end if end >= 0 else len(text)])
            place = end + len(match[0]) if end >= 0 else len(text)
            kept.append("$$")
        else:
            told = match[0] if _PLAIN_TEXT.fullmatch(match[0]) else "''"
            kept.append({"line": " ", "text": told}.get(str(kind), match[0].replace(";", "_")))
    return "".join([*kept, text[place:]]), bodies


def _end_of_comment(text: str, place: int) -> int:
    """Where a comment that may hold others ends."""
    depth = 1
    for mark in re.finditer(r"/\*|\*/", text[place:]):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return place + mark.end()
    return len(text)


def _removes(migration: Migration, statement: str) -> list[GateLine]:
    """Why the release before could not live with a statement of a migration that is said to expand only."""
    for rule, pattern in _REMOVES:
        if pattern.search(statement):
            text = f"{migration.name} is no contract, and does not only add: {statement[:120]}"
            return [_line(rule, migration, text)]
    if _DYNAMIC.search(statement) and not re.match(r"^(create|grant|revoke|alter default)\b", statement, re.IGNORECASE):
        return [
            _line("dynamic", migration, f"{migration.name} executes a text that nobody can judge: {statement[:80]}")
        ]
    if re.match(r"^alter table\b", statement, re.IGNORECASE) and any(map(_needs_value, _columns(statement))):
        text = f"{migration.name} adds a column that the release before does not fill: {statement[:120]}"
        return [_line("not-null", migration, text)]
    return []


def _columns(statement: str) -> list[str]:
    """What an ALTER TABLE adds, one by one; commas within brackets are no ends.

    >>> _columns("ALTER TABLE t ADD a numeric(1,2) NOT NULL, ADD CONSTRAINT c CHECK (x), ADD COLUMN b int DEFAULT 1")
    ['a numeric() NOT NULL', 'b int DEFAULT 1']
    """
    before = ""
    while before != statement:
        before, statement = statement, re.sub(r"\([^()]+\)", "()", statement)
    return [match[1] for part in statement.split(",") if (match := _ADDED.search(part))]


def _needs_value(column: str) -> bool:
    needs = re.search(r"\b(not null|primary key)\b", column, re.IGNORECASE)
    return bool(needs) and not re.search(r"\b(default|generated|serial|bigserial)\b", column, re.IGNORECASE)


def _without_timeout(found: list[str]) -> str:
    """The first statement that could wait for a lock without an end."""
    for statement in found:
        if _TIMEOUT.match(statement):
            return ""
        if not _SETS.match(statement):
            return statement
    return ""


def _line(rule: str, migration: Migration, text: str) -> GateLine:
    return GateLine(rule=rule, text=text, file=migration.name)
