from __future__ import annotations

from pathlib import Path

import pytest

from nvclab import platform_file
from nvclab.layout import PORT_NAMES, Layout, new_record
from nvcops.core.manifest import Manifest, parse


@pytest.fixture
def written(tmp_path: Path) -> Path:
    layout = Layout(tmp_path / "a lab")
    layout.prepare()
    record = new_record({name: 20_000 + number for number, name in enumerate(PORT_NAMES)})
    return platform_file.write(layout, record, ["account_customer"])


@pytest.fixture
def manifest(written: Path) -> Manifest:
    return parse(written.read_text(encoding="utf-8"), written)


def test_operations_can_read_it_and_it_names_this_labs_parts(written: Path, manifest: Manifest) -> None:
    ports = dict(zip(PORT_NAMES, range(20_000, 20_100), strict=False))
    (service,) = manifest.services
    assert service.url == f"https://localhost:{ports['https']}"
    assert [instance.url for instance in service.instances] == [
        f"http://127.0.0.1:{ports['bank-1']}",
        f"http://127.0.0.1:{ports['bank-2']}",
    ]
    assert manifest.database is not None
    assert manifest.database.port == ports["primary"]
    assert manifest.database.standbys[0].port == ports["standby"]
    assert manifest.database.required_indexes == ("account_customer",)
    assert manifest.database.password_file == written.parent / "secrets" / "operations.password"
    assert manifest.platform.state == written.parent / "nvcops"
    assert manifest.disks[1].quota is not None


def test_each_person_has_a_key_of_their_own(manifest: Manifest) -> None:
    keys = [person.ssh_keys for person in manifest.people]
    assert len(keys) >= 2
    assert all(len(lines) == 1 and lines[0].startswith("ssh-ed25519 ") for lines in keys)
    assert len(set(keys)) == len(keys)


def test_the_comments_of_the_repositorys_file_are_kept(written: Path) -> None:
    template = platform_file.TEMPLATE.read_text(encoding="utf-8")
    headings = [line for line in template.splitlines() if line.startswith("# ---")]
    assert headings
    assert all(heading in written.read_text(encoding="utf-8") for heading in headings)
