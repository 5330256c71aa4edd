"""All variants by name: what each does, its options, and what becomes of the bank's package."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvclab.errors import LabError
from nvclab.faults.kind import Options, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MIGRATIONS = "migrations"
COLUMN = "lab_mark"
# What all variants may have, so that there is something to be worse than: a share of errors, and work that takes time.
_USUAL: Mapping[str, Value] = {"errors": 0.0, "pace_ms": 0.0, "after": 20}


@dataclass(frozen=True)
class Variant:
    """A kind of release. `spoil` turns options into a Spoiler's; `edit` changes the copied package."""

    name: str
    does: str
    good: bool = False
    options: Mapping[str, Value] = field(default_factory=dict)
    spoil: Callable[[Options], Options] = lambda _: {}
    edit: Callable[[Path], None] = lambda _: None

    def read(self, written: Sequence[str]) -> Options:
        """Its options from words like `errors=0.01`, with defaults for the rest; LabError when wrong."""
        options: Options = {**_USUAL, **self.options}
        for word in written:
            key, equals, value = word.partition("=")
            if not equals or key not in options:
                known = " ".join(f"{known}={default}" for known, default in options.items())
                raise LabError(f"{self.name} has no option {word!r}.", hint=f"its options with their defaults: {known}")
            try:
                options[key] = type(options[key])(value)
            except ValueError as error:
                raise LabError(f"{key} is a number, not {value!r}.", hint=f"as {key}={options[key]}") from error
        return options

    def spoiler(self, options: Options) -> Options:
        """What its Spoiler is made of."""
        usual = {key: options[key] for key in _USUAL}
        return {**usual, **self.spoil(options)}


def find(name: str) -> Variant:
    """The variant by that name; LabError, with the nearest name as hint."""
    if name in VARIANTS:
        return VARIANTS[name]
    near = difflib.get_close_matches(name, VARIANTS, 1)
    raise LabError(
        f"There is no variant called {name!r}.", hint=f"did you mean {near[0]}?" if near else "nvclab release --list"
    )


def as_text() -> str:
    """The catalogue for a person."""
    lines = [f"every variant: {' '.join(f'[{key}={value}]' for key, value in _USUAL.items())}"]
    for one in VARIANTS.values():
        options = " ".join(f"[{key}={value}]" for key, value in one.options.items())
        lines += [f"{one.name} {options}".rstrip(), f"    {one.does}"]
    return "\n".join(lines)


def _adds(kind: str, name: str, sql: str) -> Callable[[Path], None]:
    """An edit: one migration more, after those that are there."""

    def edit(package: Path) -> None:
        folder = package / MIGRATIONS
        number = len(list(folder.glob("*.sql"))) + 1
        text = f"-- A change of the lab's.\n\n{sql.format(number=number)};\n"
        (folder / f"{number:04d}_{kind}_{name}.sql").write_text(text, encoding="utf-8")

    return edit


def _needs_what_is_not_there(package: Path) -> None:
    """The list of accounts asks for a column that no migration makes."""
    module = package / "api" / "customers.py"
    text = module.read_text(encoding="utf-8")
    if "a.opened_at" not in text:
        raise LabError(f"{module} does not ask for a.opened_at.", hint="correct the variant missing-column")
    module.write_text(text.replace("a.opened_at", "a.opened_on"), encoding="utf-8")


VARIANTS: Mapping[str, Variant] = {
    one.name: one
    for one in (
        Variant("good", "Another version, and nothing else.", good=True),
        Variant(
            "expand",
            "Brings a migration that adds a column.",
            good=True,
            edit=_adds("expand", "mark", f"ALTER TABLE customer ADD COLUMN {COLUMN}_{{number}} text"),
        ),
        Variant(
            "contract",
            "Brings a migration that removes something, to be applied when the rollback window is over.",
            good=True,
            edit=_adds("contract", "mark", f"ALTER TABLE customer DROP COLUMN IF EXISTS {COLUMN}"),
        ),
        Variant(
            "errors",
            "Fails `times` as often as the usual share of errors.",
            options={"times": 5.0, "errors": 0.01},
            spoil=lambda options: {"errors": float(options["errors"]) * float(options["times"])},
        ),
        Variant(
            "slow",
            "Takes longer than the usual pace, by the share `more`.",
            options={"more": 0.2, "pace_ms": 60.0},
            spoil=lambda options: {"pace_ms": float(options["pace_ms"]) * (1 + float(options["more"]))},
        ),
        Variant(
            "crash",
            "Ends by itself, crash_s after its first request.",
            options={"crash_s": 30.0},
            spoil=lambda options: {"crash_s": options["crash_s"]},
        ),
        Variant(
            "leak",
            "Holds more and more memory, up to leak_mib.",
            options={"leak_mib_per_s": 20.0, "leak_mib": 300},
            spoil=lambda options: {key: options[key] for key in ("leak_mib_per_s", "leak_mib")},
        ),
        Variant(
            "failing-migration",
            "Brings a migration that fails.",
            edit=_adds("expand", "broken", "ALTER TABLE customer ADD COLUMN broken integer DEFAULT 1 / 0"),
        ),
        Variant(
            "missing-column", "Reads a column that is in no schema: whoever looks at an account sees an error.",
            edit=_needs_what_is_not_there,
        ),
        Variant(
            "failing", "Fails a share of its requests.",
            options={"share": 0.5},
            spoil=lambda options: {"errors": options["share"]},
        ),
        Variant("never-ready", "Never says that it is ready.", spoil=lambda _: {"ready": False}),
        Variant("no-metrics", "Has no metrics: who asks gets an error.", spoil=lambda _: {"metrics": "gone"}),
        Variant("renamed-metrics", "Counts under other names.", spoil=lambda _: {"metrics": "lender_"}),
    )
}  # fmt: skip
