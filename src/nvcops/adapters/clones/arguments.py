"""Arguments for the statements of a workload, drawn from the columns of a copy with which they are compared."""

from __future__ import annotations

from collections.abc import Sequence

from nvcops.adapters.clones.prepared import parameters
from nvcops.core.clones import Copy
from nvcops.core.workload import Statement


def drawn(copy: Copy, statements: Sequence[Statement], sets: int) -> list[Statement]:  # noqa: ARG001
    """The statements that need no arguments."""
    return [each for each in statements if each.arguments or not parameters(each.text)]
