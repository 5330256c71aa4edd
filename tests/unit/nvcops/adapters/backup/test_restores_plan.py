"""What a restore is refused for before anything is asked or touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.adapters.backup.restores import open_restores
from nvcops.core.backups import RestoreTarget
from nvcops.core.errors import NotFoundError, Refused
from nvcops.core.manifest import parse
from nvcops.core.restores import Purpose

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
standbys = [{{ name = "db-2", host = "127.0.0.2" }}]
[backups]
repository = "{folder}/repository"
[recovery]
data = "{folder}/data"
[cluster]
scope = "bank"
members = [{{ name = "db-1", url = "http://127.0.0.1:8008" }}, {{ name = "db-2", url = "http://127.0.0.2:8008" }}]
etcd = ["http://127.0.0.1:2379"]
"""


def test_data_that_patroni_manages_are_not_replaced_in_place(tmp_path: Path) -> None:
    restores = open_restores(parse(_PLATFORM.format(folder=tmp_path), tmp_path / "platform.toml"))
    with pytest.raises(Refused, match="the servers are Patroni's \\(bank\\)") as refused:
        restores.plan("run@1", "newest", RestoreTarget(), purpose=Purpose.IN_PLACE, into=None)
    assert refused.value.exit_code == 3
    assert "--into a folder" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFoundError, match="there is no backup"):  # into a folder nothing stands against it
        restores.plan("run@1", "newest", RestoreTarget(), purpose=Purpose.FOLDER, into=tmp_path / "copy")
