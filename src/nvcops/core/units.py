"""Quantities as people write them: `"200 ms"`, `"0.1 %"`, `"64 MiB"`. A number never stands without its unit.

Inside the program a duration is seconds, a share is a ratio (1 is all), a size is bytes.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

_WRITTEN = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*([A-Za-zµ%]*)\s*$")


class Quantity(float):
    """A number in its base unit that reads and prints with a unit."""

    kind: ClassVar[str] = ""
    example: ClassVar[str] = ""
    units: ClassVar[dict[str, float]] = {}

    @classmethod
    def read(cls, written: object) -> Self:
        """Read a quantity as a person writes it.

        >>> Seconds.read("200 ms")
        0.2
        >>> Ratio.read("99.9 %")
        0.999
        >>> Bytes.read("64 MiB")
        67108864.0
        >>> Seconds.read("64 MiB")
        Traceback (most recent call last):
        ValueError: '64 MiB' is not a duration: the units are us, ms, s, min, h, d (as in "200 ms")
        >>> Seconds.read(200)
        Traceback (most recent call last):
        ValueError: 200 has no unit: write a duration with one (as in "200 ms")
        """
        if not isinstance(written, str):
            raise ValueError(f'{written!r} has no unit: write {cls.kind} with one (as in "{cls.example}")')  # noqa: TRY004
        match = _WRITTEN.match(written)
        if match is None or match[2] not in cls.units:
            raise ValueError(
                f'{written!r} is not {cls.kind}: the units are {", ".join(cls.units)} (as in "{cls.example}")'
            )
        return cls(round(float(match[1]) * cls.units[match[2]], 12))

    def __str__(self) -> str:
        """Print in the largest unit that leaves at least 1.

        >>> str(Seconds(0.0537)), str(Seconds(7200)), str(Seconds(0))
        ('53.7 ms', '2 h', '0 s')
        >>> str(Ratio(0.0004)), str(Bytes(1536))
        ('0.04 %', '1.5 KiB')
        """
        fits = [(size, unit) for unit, size in self.units.items() if abs(self) >= size]
        size, unit = max(fits) if fits else (1.0, self._base())
        return f"{_trim(self / size)} {unit}"

    @classmethod
    def _base(cls) -> str:
        return next(unit for unit, size in cls.units.items() if size == 1)


class Seconds(Quantity):
    """A duration."""

    kind, example = "a duration", "200 ms"
    units: ClassVar[dict[str, float]] = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}


class Bytes(Quantity):
    """A size."""

    kind, example = "a size", "64 MiB"
    units: ClassVar[dict[str, float]] = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Ratio(Quantity):
    """A share of a whole; 1 is all of it."""

    kind, example = "a share", "0.1 %"
    units: ClassVar[dict[str, float]] = {"%": 0.01}

    def __str__(self) -> str:
        """Print in percent; near 100, three digits would hide the third nine and round 94.99 to its limit.

        >>> str(Ratio(0.99951)), str(Ratio(0.9499)), str(Ratio(0.1234)), str(Ratio(1))
        ('99.951 %', '94.99 %', '12.3 %', '100 %')
        """
        percent = self * 100
        if 90 < abs(percent) < 100:
            return f"{percent:.3f}".rstrip("0").rstrip(".") + " %"
        return f"{_trim(percent)} %"


class Count(float):
    """A number of things: no unit."""

    @classmethod
    def read(cls, written: object) -> Self:
        """Read a plain number.

        >>> Count.read(3)
        3.0
        """
        if isinstance(written, bool) or not isinstance(written, int | float):
            raise ValueError(f"{written!r} is not a number")  # noqa: TRY004
        return cls(written)

    def __str__(self) -> str:
        return _trim(self)


def _trim(number: float) -> str:
    """Three significant digits are what a person reads; whole numbers stay whole.

    >>> _trim(2.0), _trim(53.74), _trim(1234.5)
    ('2', '53.7', '1,234')
    """
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}"
