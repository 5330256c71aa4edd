"""An artifact is read as strictly as it is written."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as some

from nvcops.adapters.releases import archive
from nvcops.adapters.releases.archive import Packed, pack, reading
from nvcops.core.errors import EvidenceError, UsageError
from release_world import plain, tar_of, unzstd

FILES = [Packed("release.json", b"{}"), Packed("app/shop/main.py", b"print()\n"), Packed("app/shop/run", b"#!", True)]
Member = tuple[tarfile.TarInfo, bytes]
words = some.text(some.characters(categories=["L", "N"]), min_size=1, max_size=12)


def read(data: bytes, digest: str = "") -> list[Packed]:
    with reading(io.BytesIO(data), digest or hashlib.sha256(data).hexdigest()) as files:
        return list(files)


def zstd(tar: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(tar)


@settings(deadline=None)
@given(some.dictionaries(some.lists(words, min_size=1, max_size=4).map("/".join), some.binary(max_size=2000)))
def test_the_same_files_are_the_same_bytes_and_come_back_as_they_were(contents: dict[str, bytes]) -> None:
    folders = {"/".join(path.split("/")[:end]) for path in contents for end in range(1, path.count("/") + 1)}
    files = [
        Packed(f"app/{path}", data, len(data) % 2 == 1)
        for path, data in sorted(contents.items())
        if path not in folders
    ]
    artifact = b"".join(pack(files))
    assert b"".join(pack(list(files))) == artifact
    assert read(artifact) == files


def test_other_tools_read_it_too() -> None:
    with tarfile.open(fileobj=io.BytesIO(unzstd(b"".join(pack(FILES))))) as tar:
        found = [(one.name, one.mode, one.uid, one.uname, one.mtime) for one in tar.getmembers()]
    assert found == [(file.path, 0o755 if file.executable else 0o644, 0, "", 315_532_800) for file in FILES]


def test_each_flipped_bit_of_it_is_found() -> None:
    artifact = b"".join(pack(FILES))
    digest = hashlib.sha256(artifact).hexdigest()
    for at in range(len(artifact)):
        for bit in (0, 7):
            changed = bytearray(artifact)
            changed[at] ^= 1 << bit
            with pytest.raises(EvidenceError, match="was changed: its bytes have the digest"):
                read(bytes(changed), digest)


def test_each_shorter_one_is_found() -> None:
    artifact = b"".join(pack(FILES))
    digest = hashlib.sha256(artifact).hexdigest()
    for size in range(len(artifact)):
        with pytest.raises(EvidenceError, match="was changed"):
            read(artifact[:size], digest)


def test_what_ends_early_is_refused_though_its_digest_fits() -> None:
    tar = unzstd(b"".join(pack(FILES)))
    for size in range(0, len(tar), 256):
        with pytest.raises(EvidenceError, match="ends too early"):
            read(zstd(tar[:size]))


def of_type(kind: bytes) -> Member:
    info, data = plain("app/shop/thing", b"")
    info.type, info.linkname = kind, "../../../etc/passwd"
    return info, data


def with_mode(mode: int) -> Member:
    info, data = plain("app/shop/thing", b"x")
    info.mode = mode
    return info, data


def owned() -> Member:
    info, data = plain("app/shop/thing", b"x")
    info.uid, info.uname = 1000, "mallory"
    return info, data


@pytest.mark.parametrize(
    ("members", "why"),
    [
        pytest.param([of_type(tarfile.SYMTYPE)], "is no plain file", id="symbolic link"),
        pytest.param([of_type(tarfile.LNKTYPE)], "is no plain file", id="hard link"),
        pytest.param([of_type(tarfile.CHRTYPE)], "is no plain file", id="character device"),
        pytest.param([of_type(tarfile.BLKTYPE)], "is no plain file", id="block device"),
        pytest.param([of_type(tarfile.FIFOTYPE)], "is no plain file", id="pipe"),
        pytest.param([of_type(tarfile.DIRTYPE)], "is no plain file", id="folder"),
        pytest.param([of_type(tarfile.CONTTYPE)], "is no plain file", id="contiguous file"),
        pytest.param([of_type(tarfile.GNUTYPE_SPARSE)], "is no plain file", id="sparse file"),
        pytest.param([of_type(tarfile.XHDTYPE)], "is no plain file", id="pax header"),
        pytest.param([of_type(tarfile.GNUTYPE_LONGNAME)], "is no plain file", id="long name of GNU"),
        pytest.param([plain("app/../../etc/cron.d/x", b"x")], "leads out of its folder", id="dots"),
        pytest.param([plain("/etc/cron.d/x", b"x")], "leads out of its folder", id="absolute"),
        pytest.param([plain("app//x", b"x")], "leads out of its folder", id="empty part"),
        pytest.param([plain("app/./x", b"x")], "leads out of its folder", id="dot"),
        pytest.param([plain("etc/x", b"x")], "none of the artifact's folders", id="another folder"),
        pytest.param([plain("app", b"x")], "none of the artifact's folders", id="a file for a folder"),
        pytest.param([plain("app/a\nb", b"x")], "is no name for a file", id="line end"),
        pytest.param([plain("app/a\x1b[2J", b"x")], "is no name for a file", id="escape"),
        pytest.param([plain("app/a\\b", b"x")], "is no name for a file", id="backslash"),
        pytest.param([plain("app/x", b"x"), plain("app/x", b"y")], "stands in it twice", id="twice"),
        pytest.param([plain("app/x", b"x"), plain("app/x/y", b"y")], "stands in it twice", id="a file as folder"),
        pytest.param([plain("app/x/y", b"x"), plain("app/x", b"y")], "stands in it twice", id="a folder as file"),
        pytest.param([with_mode(0o4755)], "a header that is none of ours", id="setuid"),
        pytest.param([with_mode(0o777)], "a header that is none of ours", id="others may write"),
        pytest.param([owned()], "a header that is none of ours", id="an owner"),
    ],
)
def test_what_we_would_not_have_written_is_refused(members: list[Member], why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        read(zstd(tar_of(members)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tar: tar + bytes(512), id="more zeros"),
        pytest.param(lambda tar: tar + b"x", id="something behind its end"),
        pytest.param(lambda tar: tar[:-512] + b"x" * 512, id="something for its last block"),
        pytest.param(lambda tar: tar[:514] + b"x" + tar[515:], id="something in the padding"),
        pytest.param(lambda tar: b"7" + tar[1:], id="a header whose checksum is wrong"),
    ],
)
def test_room_for_something_hidden_is_refused(change: Callable[[bytes], bytes]) -> None:
    tar = unzstd(b"".join(pack([Packed("release.json", b"{}")])))
    with pytest.raises(EvidenceError, match="none of ours"):
        read(zstd(change(tar)))


def test_a_bomb_is_refused_by_what_it_says_and_by_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    info, _ = plain("app/zeros", b"")
    info.size = 7 << 30
    with pytest.raises(EvidenceError, match="is too much"):
        read(zstd(tar_of([(info, b"")])))
    monkeypatch.setattr(archive, "TOTAL_BYTES_MAX", 3 << 20)
    files = [Packed(f"app/{number}", bytes(1 << 20)) for number in range(4)]
    with pytest.raises(EvidenceError, match="'app/3' is too much"):
        read(zstd(tar_of([plain(file.path, file.data) for file in files])))
    with pytest.raises(UsageError, match="'app/3' is too much"):
        list(pack(files))
    monkeypatch.setattr(archive, "FILES_MAX", 2)
    with pytest.raises(EvidenceError, match="'app/2' is too much"):
        read(zstd(tar_of([plain(file.path, b"") for file in files])))


def test_a_negative_size_is_refused() -> None:
    block = bytearray(plain("app/x", b"")[0].tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\xff" * 12  # -1 in the base 256 of GNU
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    with pytest.raises(EvidenceError, match="is too much"):
        read(zstd(bytes(block) + bytes(1024)))


def test_a_window_that_takes_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    artifact = compressor.compress(tar_of([plain("app/x", b"x")])) + compressor.flush()
    with pytest.raises(EvidenceError, match="cannot be decompressed"):
        read(artifact)


@pytest.mark.parametrize("artifact", [b"", b"\0" * 100, b"PK\x03\x04", b"x" * 5000], ids=["empty", "zeros", "zip", "x"])
def test_what_is_no_artifact_is_refused(artifact: bytes) -> None:
    with pytest.raises(EvidenceError, match="none of ours"):
        read(artifact)


def test_a_name_that_no_header_can_hold_is_refused_when_it_is_packed() -> None:
    with pytest.raises(UsageError, match="cannot stand in an artifact"):
        list(pack([Packed("app/" + "x" * 200, b"")]))
    assert read(b"".join(pack([Packed("app/" + "x" * 90 + "/" + "y" * 90, b"")])))
