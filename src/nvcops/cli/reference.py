"""What is written from the code, so that nothing is written twice: scripts/, docs/reference/, the runbook.

`python -m nvcops.cli.reference` writes it all; a test fails while a file differs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from nvcops import wiring
from nvcops.core import errors, manifest
from nvcops.core.alerts import Category
from nvcops.core.checks import Check
from nvcops.core.incidents import Role, Severity
from nvcops.core.procedures import Procedure, runbook
from nvcops.core.units import Count, Quantity
from nvcops.incidents import clocks
from nvcops.incidents.checklists import HOW, PHASES
from nvcops.incidents.severity import RULES

ROOT = Path(__file__).parents[3]
_WRITTEN = "Written from the code by `make docs`; edit the code."

_SHELL = """\
#!/bin/sh
# {summary}
# {written}
home=$(dirname "$(dirname "$(readlink -f "$0")")")
nvcops="$home/.venv/bin/nvcops"
[ -x "$nvcops" ] || nvcops=nvcops
exec "$nvcops" run {name} "$@"
"""

_PYTHON = '''\
#!/usr/bin/env python3
"""{summary}

{written}
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "{name}", *sys.argv[1:]])
'''


def scripts() -> Iterator[tuple[Path, str]]:
    """The runbook's script names, each a thin file over one procedure."""
    for entry in runbook():
        if entry.script:
            template = _SHELL if entry.script.endswith(".sh") else _PYTHON
            text = template.format(summary=entry.summary, name=entry.name, written=_WRITTEN)
            yield ROOT / "scripts" / entry.script, text


def documents() -> Iterator[tuple[Path, str]]:
    """The reference and the runbook."""
    reference = ROOT / "docs" / "reference"
    yield reference / "procedures.md", _page("Procedures", _procedures())
    yield reference / "checks.md", _page("Checks", _checks())
    yield reference / "errors.md", _page("Errors", _errors())
    yield reference / "settings.md", _page("Settings of platform.toml", _settings())
    yield reference / "cli.md", _page("Command line", _commands())
    operations = ROOT / "docs" / "operations"
    yield operations / "OPERATIONS_RUNBOOK.md", _page("Operations runbook", _runbook())
    yield operations / "INCIDENT_RESPONSE.md", _page("Incident response", _incident_response())


def _incident_response() -> Iterator[str]:
    file = ROOT / "platforms" / "nvc-bank" / "platform.toml"
    example = manifest.parse(file.read_text(encoding="utf-8"), file)
    yield "How an incident is led here, from the first sign to the last action item. The times are those of the example"
    yield "`platforms/nvc-bank/platform.toml`; a platform says its own.\n"
    yield "## Severity levels\n"
    yield "Inferred from what is seen - burn rates, probes, the payments' success, data and security - and again"
    yield "as that changes, with its reasons; a person may override it: `nvcops incident severity N P1 --reason ...`.\n"
    yield "| severity | response begins within |\n|---|---|"
    for severity in Severity:
        within = getattr(example.incidents.respond, severity.lower())
        yield f"| {severity} | {within or 'at once'} |"
    yield "\n| sign | is called |\n|---|---|"
    yield from (f"| `{signal}` | {rule.title} |" for signal, rule in RULES.items())
    yield ""
    yield "## Alert categories\n"
    yield "| category | acknowledged within, else the next is asked |\n|---|---|"
    yield from (f"| {name} | {getattr(example.alerts.acknowledge, name)} |" for name in Category)
    yield "\n## The five phases\n"
    for phase, items in PHASES.items():
        yield f"### {phase}\n"
        yield from (f"- [ ] {item}{': ' + HOW[item] if item in HOW else ''}" for item in items)
        yield ""
    yield "`nvcops incident checklist N` shows them as they stand, `nvcops incident tick N ITEM` ticks one.\n"
    yield "## Roles\n"
    yield from (f"* {role}" for role in Role)
    yield "\n`nvcops assign N ROLE WHO` gives one to somebody, who is told.\n"
    yield "## Regulators\n"
    yield "| report | what it is | its clock begins with |\n|---|---|---|"
    yield from (f"| `{rule.name}` | {rule.title} | {rule.begins} |" for rule in clocks.RULES.values())


def _page(title: str, lines: Iterator[str]) -> str:
    return f"# {title}\n\n{_WRITTEN}\n\n" + "\n".join(lines).rstrip() + "\n"


def _procedures() -> Iterator[str]:
    for entry in runbook():
        yield f"## {entry.name}\n"
        yield entry.description + "\n"
        yield f"* room: {entry.room}; due: {entry.when}"
        if entry.script:
            yield f"* script: `scripts/{entry.script}`"
        if entry.evidences:
            yield f"* evidence for: {', '.join(entry.evidences)}"
        yield from (f"* `{option.flag}`: {option.help}" for option in entry.options)
        yield ""


def _runbook() -> Iterator[str]:
    yield "Every line runs: by hand as `nvcops run NAME` or by its script, by the clock under `nvcops serve`.\n"
    for when in sorted({str(entry.when) for entry in runbook()}):
        yield f"## {'On demand' if when == 'never' else when[:1].upper() + when[1:]}\n"
        yield "| procedure | script | what it does |\n|---|---|---|"
        yield from (_runbook_row(entry) for entry in runbook() if str(entry.when) == when)
        yield ""


def _runbook_row(entry: Procedure) -> str:
    script = f"`{entry.script}`" if entry.script else ""
    return f"| `{entry.name}` | {script} | {entry.summary} |"


def _checks() -> Iterator[str]:
    yield "| check | what is looked at | next step when it is not OK |\n|---|---|---|"
    found = {c.name: c for module in wiring.ROOMS for c in vars(module).values() if isinstance(c, Check)}
    yield from (f"| `{c.name}` | {c.title} | {c.next_step} |" for c in sorted(found.values(), key=lambda c: c.name))


def _errors() -> Iterator[str]:
    yield "Every error is a sentence with a hint; the exit code is what a script or scheduler sees.\n"
    yield "| error | exit code | meaning |\n|---|---|---|"
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.NvcopsError):
            yield f"| `{name}` | {kind.exit_code} | {(kind.__doc__ or '').splitlines()[0]} |"


def _settings() -> Iterator[str]:
    yield "A key is explained beside itself in `platforms/nvc-bank/platform.toml`; here are its type and its default.\n"
    yield "| key | takes | default |\n|---|---|---|"
    yield from _table(manifest.Manifest, "")


def _table(kind: Any, prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        inner, many = _inner(field.type)
        key = f"{prefix}{field.encode_name}{'[]' if many else ''}"
        if msgspec.inspect.is_struct_type(inner) and "Bound" not in str(inner):
            yield from _table(inner, f"{key}.")
            continue
        default = "" if field.required else _shown(field.default)
        yield f"| `{key}` | {_takes(field.type)} | {default} |"


def _inner(kind: Any) -> tuple[Any, bool]:
    """The struct inside of Optional[...] or tuple[..., ...], and whether there may be many."""
    many = False
    while not msgspec.inspect.is_struct_type(kind) and getattr(kind, "__args__", None):
        many = many or getattr(kind, "__origin__", None) in (tuple, dict)
        arguments = [a for a in kind.__args__ if a not in (type(None), Ellipsis, str)]
        if not arguments:
            break
        kind = arguments[-1]
    return kind, many


def _takes(kind: Any) -> str:
    if "Bound" in str(kind):
        return f"`{{ warning, critical }}`, each {_takes(kind.__args__[0])}"
    inner, many = _inner(kind)
    if inspect.isclass(inner) and issubclass(inner, Quantity):
        word = f'{inner.kind} (`"{inner.example}"`)'
    elif inspect.isclass(inner) and issubclass(inner, Count | int | float):
        word = "a number"
    else:
        word = {"Path": "a path", "str": "text", "date": "a date"}.get(getattr(inner, "__name__", ""), "text")
    return f"list of {word}" if many else word


def _shown(default: Any) -> str:
    if default is msgspec.NODEFAULT or default in (None, (), {}):
        return ""
    if isinstance(default, manifest.Bound):
        return f"{default.warning}, {default.critical}"
    return str(default)


def _commands() -> Iterator[str]:
    from nvcops.cli.app import nvcops

    yield "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN or wrong usage.\n"
    yield from _command(nvcops, "nvcops", None)


def _command(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name.rsplit(" ", 1)[-1], parent=parent, terminal_width=100)
    yield f"## {name}\n"
    yield "```\n" + re.sub(r"\s+\n", "\n", command.get_help(context)) + "\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found and not found.hidden and name != "nvcops run":
                yield from _command(found, f"{name} {child}", context)


def main() -> int:
    """Write all of it; with --check write nothing, name what differs, and end with 1 if anything does."""
    check = "--check" in sys.argv[1:]
    written = [*scripts(), *documents()]
    differing = [
        (path, text) for path, text in written if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    strangers = {path for path in (ROOT / "scripts").glob("*") if path.is_file()} - {path for path, _ in written}
    for path, text in differing:
        click.echo(path.relative_to(ROOT))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755 if path.parent.name == "scripts" else 0o644)
    for path in sorted(strangers):
        click.echo(f"{path.relative_to(ROOT)} belongs to no procedure")
    return 1 if strangers or (check and differing) else 0


if __name__ == "__main__":
    sys.exit(main())
