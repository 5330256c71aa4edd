"""The customers as a part of the lab: their process, and the files in which they report."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvclab.parts.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvclab.layout import Layout


@dataclass
class Customers:
    """N users of the bank behind `port`."""

    layout: Layout
    port: int
    users: int
    think_s: float
    env: Mapping[str, str]
    log: Path
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        argv = [sys.executable, "-m", "nvclab.customers", "--port", str(self.port), "--users", str(self.users)]
        argv += ["--think-s", str(self.think_s), "--folder", str(self.layout.at("customers"))]
        self.process = Process("customers", argv, self.log, self.env)

    @property
    def figures_file(self) -> Path:
        """What they see, written about once a second."""
        return self.layout.at("customers", "figures.json")

    @property
    def book(self) -> Path:
        """What the bank told them about their payments."""
        return self.layout.at("customers", "acknowledgements.jsonl")

    def launch(self) -> None:
        """Start them without waiting."""
        self.figures_file.unlink(missing_ok=True)
        self.process.start()

    def ready(self) -> bool:
        """Say whether this process of theirs has reported."""
        if not self.figures_file.exists():
            return False
        return bool(json.loads(self.figures_file.read_text(encoding="utf-8"))["pid"] == self.process.pid)

    def stop(self) -> None:
        """Send them home."""
        self.process.stop()
