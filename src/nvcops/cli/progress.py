"""What a run is doing, while it does it: one living line in a terminal, plain lines without one."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import Self

from nvcops.cli.context import aside, plain
from nvcops.cli.report import step_line
from nvcops.core.runs import RunState, StepRecord

_ERASE = "\r\x1b[2K"


class Progress:
    """Called with each step as it begins and as it ends. It writes to stderr, so that stdout stays the report."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._living = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._living and not self._quiet:
            aside(_ERASE, nl=False)

    def __call__(self, step: StepRecord) -> None:
        """Show one step."""
        if self._quiet:
            return
        if self._living and step.state is RunState.RUNNING:
            width = shutil.get_terminal_size().columns
            aside(_ERASE + plain(f"… {step.title} {step.progress}")[: width - 1], nl=False)
        elif step.state is not RunState.RUNNING:
            aside((_ERASE if self._living else "") + plain(step_line(step)))
