"""What counts as a lock: each package pinned, each with the digests of what may be installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvcops.adapters.releases.lock import Locked, read_lock
from nvcops.core.errors import UsageError
from release_world import LOCKED

HASH = f" --hash=sha256:{'a' * 64}"
REAL = Path(__file__).parents[5] / "requirements" / "run.txt"


def test_packages_come_by_their_canonical_names_with_all_digests() -> None:
    assert read_lock(LOCKED, "requirements.txt") == (
        Locked("alpha", "1.2.3", ("a" * 64, "b" * 64)),
        Locked("beta-two", "4.5", ("c" * 64,), 'python_version >= "3.11"'),
    )


def test_the_lock_of_this_repository_is_one() -> None:
    packages = read_lock(REAL.read_text(encoding="utf-8"), "run.txt")
    assert len(packages) == REAL.read_text(encoding="utf-8").count("==")
    assert all(package.sha256 for package in packages)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "locks nothing"),
        ("# nothing\n\n", "locks nothing"),
        ("alpha==1.0", "alpha has no SHA-256"),
        ("alpha==1.0 --hash=md5:" + "a" * 32, "alpha has no SHA-256, or another hash"),
        (f"alpha==1.0{HASH} --hash=sha512:{'a' * 128}", "or another hash"),
        ("alpha==1.0 --hash=sha256:" + "a" * 63, "alpha has no SHA-256"),
        ("alpha==1.0 --hash=sha256:" + "A" * 64, "alpha has no SHA-256"),
        (f"alpha>=1.0{HASH}", "alpha is not pinned by =="),
        (f"alpha==1.*{HASH}", "alpha is not pinned by =="),
        (f"alpha===1.0{HASH}", "alpha is not pinned by =="),
        (f"alpha==1.0,!=1.1{HASH}", "alpha is not pinned by =="),
        (f"alpha{HASH}", "alpha is not pinned by =="),
        (f"alpha @ https://example.com/a.whl{HASH}", "alpha is not pinned by =="),
        ("-r other.txt", "'-r' is no locked requirement"),
        ("-e .", "'-e' is no locked requirement"),
        ("--find-links https://example.com/simple", "'--find-links' is no locked requirement"),
        (f"./alpha.whl{HASH}", "is no locked requirement"),
        (f"alpha==1.0{HASH} --config-settings=x", "is no locked requirement"),
        (f"alpha==1.0{HASH}\nAlpha==1.1{HASH}", "2: alpha stands in it twice"),
        (f"ok==1{HASH}\nalpha==1.0 \\", "2: alpha has no SHA-256"),
        ("\x00", "is no locked requirement"),
    ],
)
def test_what_is_not_locked_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_lock(text, "requirements.txt")


def test_a_package_may_have_a_number_sign_in_no_comment() -> None:
    assert read_lock(f"alpha==1.0{HASH}  # why", "lock") == (Locked("alpha", "1.0", ("a" * 64,)),)
