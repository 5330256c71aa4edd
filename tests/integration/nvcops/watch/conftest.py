from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvcops.core import manifest

sys.path.insert(0, str(Path(__file__).parent))

from watching import PLATFORM, WebServer


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server of a test's own."""
    server = WebServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def platform(tmp_path: Path) -> manifest.Manifest:
    """A platform that has nothing but a name."""
    return manifest.parse(PLATFORM, tmp_path / "platform.toml")
