"""A heartbeat at a real address: called while all is well, and the address in no error."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_prometheus import serving

from nvcops.adapters.heartbeat import Heartbeat
from nvcops.core.errors import ManifestError, Refused, Unreachable

SECRET = "not-in-any-error"


def file(folder: Path, url: str) -> Path:
    path = folder / "heartbeat-url"
    path.write_text(f"{url}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_it_is_called_while_all_is_well_and_not_when_it_is_not(tmp_path: Path) -> None:
    called: list[str] = []

    def answers(path: str) -> tuple[int, bytes]:
        called.append(path)
        return 204, b""

    with serving(answers) as url:
        beat = Heartbeat(file(tmp_path, f"{url}/{SECRET}?a=b"), 60, lambda: len(called) < 2)
        for _ in range(4):
            beat()
    assert called == [f"/prometheus/{SECRET}?a=b"] * 2


def test_what_goes_wrong_is_one_sentence_without_the_address(tmp_path: Path) -> None:
    with serving(lambda _: (404, b"no such check")) as url, pytest.raises(Refused, match="answers 404") as refused:
        Heartbeat(file(tmp_path, f"{url}/{SECRET}"), 60, lambda: True)()
    with pytest.raises(Unreachable) as gone:
        Heartbeat(file(tmp_path, f"http://127.0.0.1:1/{SECRET}"), 60, lambda: True)()
    for error in (refused.value, gone.value):
        assert SECRET not in f"{error.sentence}{error.hint}{error.__cause__}"


@pytest.mark.parametrize("content", ["", "no address", "ftp://example.com/x", "https://"])
def test_a_file_that_holds_no_address(tmp_path: Path, content: str) -> None:
    with pytest.raises(ManifestError):
        Heartbeat(file(tmp_path, content), 60, lambda: True)()
