"""The house's habits, checked: small rooms, one clock, printing at the doors only, nothing that nobody uses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ALL = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
CLOCKS = {"now", "utcnow", "today", "time_ns", "time"}
MAY_READ_THE_CLOCK = ("core/schedule", "adapters/", "core/errors")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long


@pytest.mark.parametrize("path", [p for p in SOURCES if "nvcops" in p.parts], ids=name)
def test_the_clock_is_read_in_one_place(path: Path) -> None:
    if any(place in path.as_posix() for place in MAY_READ_THE_CLOCK):
        return
    reads = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and re.search(r"(^|\.)(datetime|date|time|dt)$", ast.unparse(node.func.value))
    ]
    assert not reads, "take the time from core/schedule, or as an argument"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_printing_is_for_the_doors(path: Path) -> None:
    if {"cli", "cli.py", "verifier", "demo.py", "verify_evidence.py"} & set(path.parts):
        return
    prints = [n.lineno for n in nodes(path) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    assert not prints


def test_no_module_is_an_orphan() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in ALL}
    orphans = []
    for path in SOURCES:
        module = path.stem
        if module in {"__init__", "__main__"} or path.parent.name == "migrations":  # Django goes by the folder
            continue
        if "\n@procedure(" in texts[path]:  # the runbook is filled from it
            continue
        used = re.compile(rf"\b{re.escape(module)}\b")
        if not any(used.search(text) for other, text in texts.items() if other != path and "src" in other.parts):
            orphans.append(name(path))
    assert not orphans


def test_what_must_not_stand_in_a_public_repository_does_not() -> None:
    words = re.compile(rf"(?i)--(extra-)?index-url|\bfile:///|{re.escape(str(ROOT))}/")
    found = []
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if parts[0] in {".git", ".venv", ".lab"} or not path.is_file() or path == Path(__file__):
            continue
        if path.suffix in {".py", ".md", ".toml", ".txt", ".in", ".sh", ".sql"} or path.name == "Makefile":
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if words.search(line):
                    found.append(f"{name(path)}:{number}: {line.strip()[:80]}")
    assert not found
