"""What is taken from a source, and what is refused."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nvcops.adapters.releases import source
from nvcops.adapters.releases.archive import pack
from nvcops.adapters.releases.source import Sources, gather
from nvcops.core.errors import StateError, UsageError
from nvcops.core.releases import Migration
from release_world import World, write_source

NOBODY = 65534


@pytest.fixture
def root(lab: World) -> Path:
    return lab.source


def taken(root: Path, **changes: object) -> source.Source:
    return gather(Sources(root=root, **{"packages": ("shop",), **changes}))  # type: ignore[arg-type]


def test_a_package_its_lock_and_its_migrations_are_taken(root: Path) -> None:
    found = taken(root)
    assert list(found.files) == [
        "app/shop/__init__.py",
        "app/shop/__main__.py",
        "app/shop/migrations/0001_expand_goods.sql",
        "app/shop/migrations/0002_contract_goods.sql",
        "requirements.txt",
    ]
    assert found.migrations_folder == "app/shop/migrations"
    sums = {name: file.sha256 for name, file in found.files.items()}
    assert found.migrations == (
        Migration(name="0001_expand_goods.sql", sha256=sums["app/shop/migrations/0001_expand_goods.sql"]),
        Migration(
            name="0002_contract_goods.sql", sha256=sums["app/shop/migrations/0002_contract_goods.sql"], contract=True
        ),
    )


def test_what_python_makes_and_permissions_do_not_count(root: Path) -> None:
    before = taken(root)
    (root / "shop" / "__pycache__").mkdir()
    (root / "shop" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (root / "shop" / "old.pyc").write_bytes(b"x")
    (root / "shop" / "__init__.py").chmod(0o666)
    os.utime(root / "shop" / "__main__.py", (1, 1))
    assert taken(root) == before
    (root / "shop" / "__main__.py").chmod(0o755)
    assert taken(root).files["app/shop/__main__.py"].executable


def test_migrations_may_stand_elsewhere_or_not_be_there(root: Path) -> None:
    (root / "shop" / "migrations").rename(root / "sql")
    assert taken(root).migrations == ()
    assert taken(root).migrations_folder == ""
    found = taken(root, migrations="sql")
    assert [migration.name for migration in found.migrations] == ["0001_expand_goods.sql", "0002_contract_goods.sql"]
    assert "migrations/0001_expand_goods.sql" in found.files


def test_the_names_of_migrations_are_a_parameter(root: Path) -> None:
    folder = root / "shop" / "migrations"
    (folder / "0001_expand_goods.sql").rename(folder / "V1.expand.sql")
    (folder / "0002_contract_goods.sql").rename(folder / "V10.contract.sql")
    (folder / "V2.expand.sql").write_text("SELECT 1;\n")
    found = taken(root, names=r"V(?P<number>\d+)\.(?P<kind>expand|contract)\.sql")
    assert [(one.name, one.contract) for one in found.migrations] == [
        ("V1.expand.sql", False),
        ("V2.expand.sql", False),
        ("V10.contract.sql", True),
    ]


def link(root: Path) -> None:
    (root / "shop" / "passwd").symlink_to("/etc/passwd")


def folder_link(root: Path) -> None:
    (root / "shop" / "etc").symlink_to("/etc")


def package_link(root: Path) -> None:
    (root / "shop").rename(root / "real")
    (root / "shop").symlink_to("real")


def lock_link(root: Path) -> None:
    (root / "requirements.txt").rename(root / "real.txt")
    (root / "requirements.txt").symlink_to("real.txt")


def pipe(root: Path) -> None:
    os.mkfifo(root / "shop" / "pipe")


def no_lock(root: Path) -> None:
    (root / "requirements.txt").unlink()


def folder_for_lock(root: Path) -> None:
    no_lock(root)
    (root / "requirements.txt").mkdir()


def unhashed(root: Path) -> None:
    (root / "requirements.txt").write_text("alpha==1.0\n")


def latin(root: Path) -> None:
    (root / "requirements.txt").write_bytes(b"alpha==1.0 # \xe9\n")


def empty(root: Path) -> None:
    for path in sorted((root / "shop").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def no_package(root: Path) -> None:
    (root / "shop").rename(root / "other")


def odd_name(root: Path) -> None:
    (root / "shop" / "a\nb.py").write_text("")


def not_utf8(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root / "shop") + b"/\xff.py")).write_text("")


def unnumbered(root: Path) -> None:
    (root / "shop" / "migrations" / "more.sql").write_text("")


def same_number(root: Path) -> None:
    (root / "shop" / "migrations" / "0002_expand_more.sql").write_text("")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (link, "passwd is no plain file"),
        (folder_link, "etc is no plain file"),
        (package_link, "there is no folder"),
        (lock_link, "requirements.txt is no plain file"),
        (pipe, "pipe is no plain file"),
        (no_lock, "there is no .*requirements.txt"),
        (folder_for_lock, "requirements.txt is no plain file"),
        (unhashed, "requirements.txt:1: alpha has no SHA-256"),
        (latin, "is not UTF-8"),
        (empty, "there is no Python file in it"),
        (no_package, "there is no folder"),
        (odd_name, "is no name for a file"),
        (not_utf8, "is no name for a file"),
        (unnumbered, "does not say its number"),
        (same_number, "have one number"),
    ],
)
def test_what_cannot_be_released_is_refused(root: Path, spoil: Callable[[Path], None], why: str) -> None:
    spoil(root)
    with pytest.raises(UsageError, match=why):
        taken(root)


@pytest.mark.parametrize(
    "changes",
    [
        {"packages": ("../shop",)},
        {"packages": ("/etc",)},
        {"packages": ("",)},
        {"packages": (".",)},
        {"packages": ("shop/../../x",)},
        {"lock": "../requirements.txt"},
        {"lock": "/etc/passwd"},
        {"migrations": "../sql"},
        {"wheels": "../wheels"},
    ],
)
def test_nothing_is_taken_from_outside(root: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="leads out of"):
        taken(root, **changes)
    monkeypatch.chdir(root)
    with pytest.raises(UsageError, match="leads out of"):
        taken(Path(), **changes)


def test_a_folder_that_python_cannot_import_is_refused(root: Path) -> None:
    (root / "shop").rename(root / "my-shop")
    with pytest.raises(UsageError, match="cannot import 'my-shop'"):
        taken(root, packages=("my-shop",))


def test_only_wheels_of_the_lock_are_taken(root: Path) -> None:
    wheels = root / "wheels"
    wheels.mkdir()
    (wheels / "alpha-1.2.3-py3-none-any.whl").write_bytes(b"a wheel")
    with pytest.raises(UsageError, match="is not in the lock"):
        taken(root, wheels="wheels")
    lock = root / "requirements.txt"
    digest = source.hashlib.sha256(b"a wheel").hexdigest()
    lock.write_text(lock.read_text().replace("a" * 64, digest))
    assert "wheels/alpha-1.2.3-py3-none-any.whl" in taken(root, wheels="wheels").files
    (wheels / "README").write_text("")
    with pytest.raises(UsageError, match="README is no wheel"):
        taken(root, wheels="wheels")


def test_a_large_file_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FILE_BYTES_MAX", 1 << 20)
    (root / "shop" / "data.bin").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UsageError, match="has more than 1 MiB"):
        taken(root)


def test_too_many_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FILES_MAX", 3)
    with pytest.raises(UsageError, match="more than 3 files"):
        taken(root)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that another user can go to: pytest's own are for their owner."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", ["shop/__init__.py", "shop/migrations", "requirements.txt"])
def test_what_may_not_be_read_is_said_and_never_left_out(open_root: Path, root: Path, name: str) -> None:
    copied = open_root / "source"
    root.rename(copied)
    (copied / name).chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(NOBODY)  # root may read everything
    try:
        with pytest.raises(StateError, match=f"{name} cannot be read: Permission denied"):
            taken(copied)
    finally:
        os.seteuid(me)
        (copied / name).chmod(0o755)


paths = some.lists(some.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=3).map("/".join)


@settings(max_examples=25, deadline=None)  # each writes two folders
@given(some.dictionaries(paths, some.binary(max_size=500), max_size=8), some.randoms(use_true_random=False))
def test_the_same_files_are_the_same_artifact_however_they_came_to_be(
    contents: dict[str, bytes], chance: random.Random
) -> None:
    artifacts = set()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            root = write_source(Path(folder))
            for path in chance.sample(sorted(contents), len(contents)):
                file = root / "shop" / f"{path}.py"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(contents[path])
                file.chmod(chance.choice([0o600, 0o644, 0o664]))
                os.utime(file, (chance.randrange(10**9), chance.randrange(10**9)))
            (root / "shop" / "__pycache__").mkdir()
            (root / "shop" / "__pycache__" / "x.pyc").write_bytes(chance.randbytes(9))
            found = taken(root)
            artifacts.add(b"".join(pack(file.packed(name) for name, file in found.files.items())))
    assert len(artifacts) == 1


def test_a_file_that_changes_meanwhile_is_found(lab: World) -> None:
    def change(said: str) -> None:
        if said.startswith("writing"):
            (lab.source / "shop" / "__main__.py").write_text("print('shut')\n")

    lab.tell = change
    with pytest.raises(StateError, match=r"__main__\.py was changed while the release was built"):
        lab.build()
    assert lab.store.list() == []
    assert [path for path in lab.store.folder.rglob("*") if path.is_file()] == []
