"""What people write in platform.toml about tables and settings, against what the server says."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence


def is_like(name: str, patterns: Sequence[str]) -> bool:
    r"""Whether a table, with its schema, matches one of the patterns, as of LIKE.

    >>> is_like("bank.transfer", ["bank.%"]), is_like("bank.transfer", ["bank.entry", "bank.transfe_"])
    (True, True)
    >>> is_like("bank.transfer", []), is_like("bankXtransfer", ["bank.transfer"]), is_like("a_b", [r"a\_b"])
    (False, False, True)
    """
    return any(_compiled(pattern).fullmatch(name) for pattern in patterns)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    letters = iter(pattern)
    for letter in letters:
        if letter == "\\":
            parts.append(re.escape(next(letters, "\\")))
        else:
            parts.append({"%": ".*", "_": "."}.get(letter) or re.escape(letter))
    return re.compile("".join(parts), re.DOTALL)


_MEMORY = {"B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_TIME = {"us": 1e-3, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_FACTORS = {**_MEMORY, **_TIME}
_NUMBER = re.compile(r"^\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*$")
_TRUTH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


def same_setting(written: str, setting: str, unit: str, kind: str) -> bool:
    """Whether a person's value of a setting is the server's, which is in `unit` and of a `kind` as in pg_settings.

    >>> same_setting("512MB", "32768", "16kB", "integer"), same_setting("1 GB", "1024", "MB", "integer")
    (True, True)
    >>> same_setting("5min", "300", "s", "integer"), same_setting("200", "300", "s", "integer")
    (True, False)
    >>> same_setting("yes", "on", "", "bool"), same_setting("Replica", "replica", "", "enum")
    (True, True)
    >>> same_setting("a,b", "a, b", "", "string"), same_setting("0.90", "0.9", "", "real")
    (True, True)
    """
    if kind == "bool":
        return _TRUTH.get(written.lower(), written) == _TRUTH.get(setting.lower(), setting)
    if kind in ("integer", "real"):
        wanted, there = _amount(written, unit), _amount(setting, unit)
        return wanted is not None and there is not None and abs(wanted - there) < 1e-9 * max(1.0, abs(there))
    if kind == "enum":
        return written.lower() == setting.lower()
    return [part.strip() for part in written.split(",")] == [part.strip() for part in setting.split(",")]


def _amount(written: str, unit: str) -> float | None:
    """The number in the smallest unit; one without a unit is in the setting's own."""
    match = _NUMBER.match(written)
    if match is None:
        return None
    own = re.fullmatch(r"([0-9]*)([A-Za-z]*)", unit)
    if not match[2]:
        return float(match[1]) * (int(own[1] or 1) * _FACTORS.get(own[2], 1) if own else 1)
    return float(match[1]) * _FACTORS[match[2]] if match[2] in _FACTORS else None
