"""What the receiver refuses before it asks a server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nvcops.adapters.backup.receiver import Receiver
from nvcops.adapters.backup.repository import open_repository
from nvcops.core.errors import Unreachable
from nvcops.core.manifest import parse

_PLATFORM = """
[platform]
name = "test-bank"
title = "Test bank"
state = "{folder}/state"
[evidence]
origin = "test.example/operations"
[database]
name = "bank"
user = "nvcops"
primary = {{ name = "db-1", host = "127.0.0.1" }}
[backups]
repository = "{folder}/not mounted/repository"
"""


def test_a_repository_whose_disk_is_not_mounted_is_not_made_on_another(tmp_path: Path) -> None:
    """The log would fill the wrong disk, and be missing on the right one."""
    repository = open_repository(parse(_PLATFORM.format(folder=tmp_path), tmp_path / "platform.toml"))
    with pytest.raises(Unreachable, match="there is no folder"):
        Receiver(repository).run(threading.Event())
    assert list(tmp_path.iterdir()) == []
