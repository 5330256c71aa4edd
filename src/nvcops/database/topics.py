"""What the topics of the checks have in common.

A topic is a module of this room with four names:

* `ASKED`, its queries by name, all of which are asked in one session (see performance.py);
* `parsed(answers)`, what was seen, made of their answers;
* `findings(seen, manifest, name)`, the lines about the primary of that name, which is the subject where they have none;
* `CHECKS`, all that it ever judges: of a server that does not answer, each is UNKNOWN.

It may have three more:

* `OF_STANDBYS`, queries that each standby is asked; `parsed` is then given their answers too, by the standby's name;
* `SINCE`, the release that a query needs at least (16 for pg_stat_io): before it, it is not asked and not answered;
* `UNTIL`, the newest release that a query is for, likewise.

In its SQL `{pg_stat_statements}`, `{pgstattuple}` and the like stand for the schema that the extension was installed
into; where it is not installed, or not for us, the query is not asked, and its answer is a refusal that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from nvcops.core.checks import Check, Finding
from nvcops.core.errors import Refused, TargetError
from nvcops.core.queries import Rows
from nvcops.core.workload import quoted

Answers = dict[str, Rows | TargetError]
T = TypeVar("T")
GRANT = "GRANT pg_monitor TO the user of nvcops"
INSTALL = "CREATE EXTENSION {name}"
_PRELOADED = {"pg_stat_statements"}
_EXTENSION = re.compile(r"\{([a-z_]+)\}")


class Extension(msgspec.Struct, frozen=True):
    """An extension of the database: the schema that it is in, and whether the server has loaded it where it must."""

    schema: str
    loaded: bool = True


def placed(queries: Mapping[str, str], extensions: Mapping[str, Extension]) -> tuple[dict[str, str], Answers]:
    """The queries with the schemas of their extensions, and a refusal for each that lacks one.

    >>> asked, refused = placed({"a": "SELECT 1", "b": "FROM {x}.y"}, {"x": Extension("Mine")})
    >>> asked["b"], refused
    ('FROM "Mine".y', {})
    >>> placed({"b": "FROM {x}.y"}, {})[1]["b"].hint
    'CREATE EXTENSION x'
    >>> placed({"b": "FROM {x}.y"}, {"x": Extension("Mine", loaded=False)})[1]["b"].sentence
    'x may not be used by us'
    """
    asked: dict[str, str] = {}
    refused: Answers = {}
    for name, sql in queries.items():
        needed = set(_EXTENSION.findall(sql))
        lacking = [one for one in sorted(needed) if one not in extensions or not extensions[one].loaded]
        if lacking:
            refused[name] = _unusable(lacking[0], extensions.get(lacking[0]))
            continue
        asked[name] = _EXTENSION.sub(lambda found: quoted(extensions[found[1]].schema), sql)
    return asked, refused


def _unusable(name: str, extension: Extension | None) -> Refused:
    if extension is not None and name not in _PRELOADED:
        home = quoted(extension.schema)
        hint = f"GRANT USAGE ON SCHEMA {home} and GRANT pg_stat_scan_tables TO the user of nvcops"
        return Refused(f"{name} may not be used by us", hint=hint)
    hint = INSTALL.format(name=name)
    if name in _PRELOADED:
        hint += ", with it in shared_preload_libraries"
    return Refused(f"{name} is not installed", hint=hint)


def many(answers: Answers, name: str, kind: type[T]) -> tuple[T, ...]:
    """The rows of an answer as a type; none where it was refused or not asked."""
    rows = answers.get(name, [])
    return () if isinstance(rows, TargetError) else msgspec.convert(rows, tuple[kind, ...])  # type: ignore[valid-type]


def unread(answers: Answers) -> dict[str, str]:
    """Which queries were refused, and why."""
    return {name: answer.sentence for name, answer in answers.items() if isinstance(answer, TargetError)}


def unknown(check: Check, why: str, next_step: str = GRANT, *, subject: str = "") -> Finding:
    """The line of a check that could not be read, with what helps."""
    return msgspec.structs.replace(check, next_step=next_step).unknown(why, subject=subject)


def then(finding: Finding, **facts: object) -> Finding:
    """Fill the next step with what was found.

    >>> then(Finding(check="a", title="A", verdict=1, next_step="VACUUM {name}"), name="{b}").next_step
    'VACUUM {b}'
    """
    return msgspec.structs.replace(finding, next_step=finding.next_step.format(**facts))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a person, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
    ('a, b', 'a, b and 1 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Lines = Mapping[str, tuple[Sequence[Check], Callable[[], Sequence[Finding]]]]


def judged(lines: Lines, unread: Mapping[str, str], name: str) -> list[Finding]:
    """What the rules say, by the query that each lives on; of a query that was refused, its checks are UNKNOWN.

    >>> check = Check("a", "A", "")
    >>> lines = {"q": ([check], lambda: [check.unknown("nothing seen")])}
    >>> [judged(lines, unread, "db-1")[0].observed for unread in ({}, {"q": "db-1 refused"})]
    ['nothing seen', 'db-1 refused']
    """
    made: list[Finding] = []
    for query, (checks, rule) in lines.items():
        if query in unread:
            made += [unknown(check, unread[query], subject=name) for check in checks]
        else:
            made += rule()
    return made
