"""The store: what is found, what is refused, what is passed over."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext

import msgspec
import pytest

from nvcops.adapters.releases.contents import Contents, read_contents
from nvcops.adapters.releases.store import ReleaseStore
from nvcops.core.errors import EvidenceError, NotFoundError, Unreachable, UsageError
from nvcops.core.manifest.delivery import Builder
from nvcops.core.releases import Migration, Release
from release_world import COMMIT, NOON, World, plain, statement, unzstd, world, write_key, zstd_of

GOODS = Migration(name="0001_expand_goods.sql", sha256="1" * 64)
EMPTY = World.digest_of(b"")


def test_a_release_is_what_was_built(lab: World) -> None:
    built = lab.build("2.0-rc1")
    assert (built.name, built.version, built.builder, built.revision) == ("shop", "2.0-rc1", "lab", COMMIT)
    assert built.built == NOON + dt.timedelta(seconds=2)
    assert built.size == lab.artifact(built.digest).stat().st_size
    assert [(one.name, one.contract) for one in built.migrations] == [
        ("0001_expand_goods.sql", False),
        ("0002_contract_goods.sql", True),
    ]
    assert built.components == 2
    assert lab.store.list() == [built]
    assert lab.store.verify(built.digest) == built
    assert lab.store.artifact(built.digest) == lab.artifact(built.digest)


def test_its_inventory_has_its_files_and_components(lab: World) -> None:
    inventory = lab.store.inventory(lab.build().digest)
    assert inventory.migrations_folder == "app/shop/migrations"
    assert sorted(inventory.files)[:2] == ["app/shop/__init__.py", "app/shop/__main__.py"]
    assert [(one.name, one.version, one.licences) for one in inventory.components] == [
        ("alpha", "1.2.3", ("MIT",)),
        ("beta-two", "4.5", ("MIT",)),
    ]


def test_the_same_source_gives_the_same_digest_wherever_it_stands(lab: World) -> None:
    built = lab.build()
    moved = lab.folder / "elsewhere"
    shutil.copytree(lab.source, moved, copy_function=shutil.copyfile)
    lab.source = moved
    assert lab.build() == built  # the first statement stays
    other = ReleaseStore(lab.folder / "other", lab.store.builders)
    lab.store = other
    again = lab.build()
    assert again.digest == built.digest
    assert again.built != built.built


def test_what_was_damaged_is_built_again(lab: World) -> None:
    built = lab.build()
    lab.artifact(built.digest).write_bytes(b"x" * built.size)
    with pytest.raises(EvidenceError, match="was changed"):
        lab.store.verify(built.digest)
    assert lab.build().digest == built.digest
    lab.envelope(built.digest).write_bytes(b"{}")
    assert lab.build().digest == built.digest
    assert lab.store.survey()[1] == []


def test_it_is_found_by_version_or_by_the_first_characters_of_its_digest(lab: World) -> None:
    first = lab.build()
    (lab.source / "shop" / "more.py").write_text("")
    second, other = lab.build(), lab.build("1.1")
    assert lab.store.find("1.0") == second  # the newest of that version
    assert lab.store.find("1.1") == other
    assert lab.store.find(first.digest) == lab.store.find(first.digest[:8]) == first
    assert list(lab.store.list()) == [other, second, first]
    for wanted in ("", "2.0", first.digest[:7], first.digest[:8].upper(), "g" * 8, "../x", first.digest + "0"):
        with pytest.raises(NotFoundError, match="there is no release"):
            lab.store.find(wanted)


def test_a_version_that_looks_like_another_ones_digest_is_asked_about(lab: World) -> None:
    first = lab.build()
    twin = lab.build(first.digest[:8])
    with pytest.raises(UsageError, match="fits several releases"):
        lab.store.find(first.digest[:8])
    assert lab.store.find(first.digest[:9]) == first
    assert lab.store.find(twin.digest) == twin


@pytest.mark.parametrize(
    "version",
    ["", " ", "1.0 ", "-1", "../1", "1/0", "1\n0", "$(reboot)", "1;2", "\u0661", "x" * 65, ".1", "a:b", "1'", "a\0"],
)
def test_odd_versions_are_refused_before_anything_is_written(lab: World, version: str) -> None:
    with pytest.raises(UsageError, match="is no version"):
        lab.build(version)
    assert not lab.store.folder.exists()


@pytest.mark.parametrize("version", ["1", "1.0", "2026.03.02+g1a2b3c4", "1!2.0", "v1_2-rc.3", "x" * 64])
def test_usual_versions_are_taken(lab: World, version: str) -> None:
    lab.build(version)
    assert lab.store.find(version).version == version


@pytest.mark.parametrize("revision", ["main", "0123456", COMMIT.upper(), f"{COMMIT}-dirt", f"{COMMIT}\n"])
def test_a_revision_is_a_whole_commit(lab: World, revision: str) -> None:
    from nvcops.adapters.releases.building import Build
    from nvcops.adapters.releases.signing import load_signing_key

    build = Build(lab.store, load_signing_key(lab.key, lab.store.builders))
    order = lab.order()
    with pytest.raises(UsageError, match="is no commit"):
        build.run(type(order)(name="shop", version="1", sources=order.sources, revision=revision))


def truncated(lab: World, one: Release, _: Release) -> None:
    os.truncate(lab.artifact(one.digest), one.size - 1)


def longer(lab: World, one: Release, _: Release) -> None:
    with lab.artifact(one.digest).open("ab") as file:
        file.write(b"\0")


def missing(lab: World, one: Release, _: Release) -> None:
    lab.artifact(one.digest).unlink()


def swapped(lab: World, one: Release, other: Release) -> None:
    shutil.copy(lab.envelope(other.digest), lab.envelope(one.digest))


def unsigned(lab: World, one: Release, _: Release) -> None:
    lab.envelope(one.digest).write_bytes(b'{"payload":"","payloadType":"","signatures":[]}\n')


def by_another(lab: World, _one: Release, _: Release) -> None:
    lab.store = ReleaseStore(lab.store.folder, (Builder(name="lab", key=write_key(lab.folder / "mallory")),))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (truncated, "bytes, and .* were signed"),
        (longer, "bytes, and .* were signed"),
        (missing, "is missing"),
        (swapped, "is about another artifact"),
        (unsigned, "none of ours"),
        (by_another, "not signed by a builder"),
    ],
)
def test_what_does_not_fit_is_refused_and_passed_over(
    lab: World, spoil: Callable[[World, Release, Release], None], why: str
) -> None:
    one, other = lab.build("1"), lab.build("2")
    spoil(lab, one, other)
    with pytest.raises(EvidenceError, match=why):
        lab.store.verify(one.digest)
    with pytest.raises(EvidenceError, match=why):
        lab.store.unpack(one.digest, lab.folder / "unpacked")
    assert not (lab.folder / "unpacked").exists()
    releases, troubles = lab.store.survey()
    assert one not in releases
    assert any(one.digest[:16] in trouble for trouble in troubles)
    with pytest.raises(NotFoundError, match=r"no release '1'.*passed over"):
        lab.store.find("1")


def test_artifacts_that_were_swapped_are_found(lab: World) -> None:
    one, other = lab.build("1"), lab.build("2")
    shutil.copy(lab.artifact(other.digest), lab.artifact(one.digest))
    with pytest.raises(EvidenceError, match=r"was changed|were signed"):
        lab.store.verify(one.digest)


def repacked(lab: World, change: Callable[[Contents], Contents]) -> str:
    """The last release once more, with another `release.json` than was signed about; its digest."""
    tar = bytearray(unzstd(lab.artifact(lab.build().digest).read_bytes()))
    size = int(tar[124:135], 8)
    signed = read_contents(bytes(tar[512 : 512 + size]))
    info, data = plain("release.json", change(signed).encoded())
    rest = tar[512 + size + -size % 512 :]
    artifact = zstd_of(b"".join([info.tobuf(), data, bytes(-len(data) % 512), rest]))
    lab.keep(artifact, signed)
    return World.digest_of(artifact)


@pytest.mark.parametrize(
    "field",
    [{"version": "6.6"}, {"name": "x"}, {"lock": "0" * 64}, {"components": 3}, {"migrations": ()}, {"files": {}}],
    ids=lambda field: next(iter(field)),
)
def test_an_artifact_that_says_other_than_was_signed_is_refused(lab: World, field: dict[str, object]) -> None:
    digest = repacked(lab, lambda contents: msgspec.structs.replace(contents, **field))
    with pytest.raises(EvidenceError, match=r"does not begin with the release\.json that was signed"):
        lab.store.verify(digest)


def test_one_repacked_with_the_same_words_is_a_release_of_its_own(lab: World) -> None:
    digest = repacked(lab, lambda contents: contents)
    assert lab.store.verify(digest).version == "1.0"


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"version": "6.6"}, "differ: version"),
        ({"name": "x"}, "differ: name"),
        ({"components": 3}, "differ: number of components"),
        ({"migrations": ()}, "differ: migrations"),
    ],
    ids=["version", "name", "components", "migrations"],
)
def test_a_statement_that_says_other_than_the_artifact_is_refused(
    lab: World, field: dict[str, object], why: str
) -> None:
    built = lab.build()
    tar = unzstd(lab.artifact(built.digest).read_bytes())
    contents = read_contents(tar[512 : 512 + int(tar[124:135], 8)])
    other = statement(msgspec.structs.replace(contents, **field), built.digest, built.size)
    about = statement(contents, built.digest, built.size).predicate.run_details
    lab.sign(msgspec.structs.replace(other, predicate=msgspec.structs.replace(other.predicate, run_details=about)))
    with pytest.raises(EvidenceError, match=why):
        lab.store.verify(built.digest)


SOUND = {"sbom.cdx.json": World.digest_of(b'{"bomFormat":"CycloneDX","components":[]}'), "requirements.txt": EMPTY}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"files": SOUND}, "app/x in the artifact is not the file that"),
        ({"files": SOUND | {"app/x": "0" * 64}}, "app/x in the artifact is not the file that"),
        ({"files": SOUND | {"app/x": World.digest_of(b"x"), "app/y": "0" * 64}}, "the artifact lacks app/y"),
        ({"components": 1}, "another number of components"),
        ({"lock": "0" * 64}, "differ: requirements.txt"),
        ({"format": 2}, "has format 2"),
        (
            {"migrations": (GOODS,), "migrations_folder": "app/sql"},
            "the migration app/sql/0001_expand_goods.sql is not",
        ),
        ({}, ""),
    ],
    ids=["unlisted", "another digest", "missing", "components", "lock", "format", "migration", "sound"],
)
def test_an_artifact_that_is_not_what_it_says_is_refused_though_a_builder_signed_it(
    lab: World, said: dict[str, object], why: str
) -> None:
    digest = lab.forge([plain("app/x", b"x")], **said)
    with pytest.raises(EvidenceError, match=why) if why else nullcontext():
        lab.store.verify(digest)
    with pytest.raises(EvidenceError, match=why) if why else nullcontext():
        lab.store.unpack(digest, lab.folder / "host" / "unpacked")
    assert (lab.folder / "host" / "unpacked").exists() == (not why)


@pytest.mark.parametrize("kind", ["type_", "predicate_type"])
def test_a_statement_of_another_kind_is_refused(lab: World, kind: str) -> None:
    built = lab.build()
    said = lab.store.provenance(built.digest)
    lab.sign(msgspec.structs.replace(said, **{kind: "https://example.com/other"}))
    with pytest.raises(EvidenceError, match="is of another kind"):
        lab.store.verify(built.digest)


def test_an_odd_version_that_was_signed_is_refused(lab: World) -> None:
    digest = lab.forge([], version="../../1")
    with pytest.raises(EvidenceError, match="is no version"):
        lab.store.verify(digest)
    assert lab.store.list() == []


@pytest.mark.parametrize("lock", ["", "../../etc", "a" * 63, "A" * 64])
def test_a_lock_that_is_no_digest_is_refused(lab: World, lock: str) -> None:
    digest = lab.forge([], lock=lock)
    with pytest.raises(EvidenceError, match="does not name all digests"):
        lab.store.verify(digest)


def test_a_statement_that_cannot_be_read_is_passed_over(lab: World) -> None:
    one, other = lab.build("1"), lab.build("2")
    os.truncate(lab.envelope(one.digest), (64 << 20) + 1)
    releases, troubles = lab.store.survey()
    assert releases == [other]
    assert "is larger than 64 MiB" in troubles[0]


def test_removing_frees_its_bytes_and_what_is_gone_is_fine(lab: World) -> None:
    one, other = lab.build("1"), lab.build("2")
    size = sum(path(one.digest).stat().st_size for path in (lab.artifact, lab.envelope))
    assert lab.store.remove(one.digest) == size
    assert lab.store.remove(one.digest) == 0
    assert lab.store.list() == [other]
    with pytest.raises(NotFoundError):
        lab.store.verify(one.digest)
    for odd in ("", "..", "../" + other.digest, other.digest[:8]):
        with pytest.raises(UsageError, match="is no digest"):
            lab.store.remove(odd)


def test_a_sweep_takes_what_has_no_statement_for_an_hour_and_nothing_else(lab: World) -> None:
    one, other = lab.build("1"), lab.build("2")
    lab.envelope(one.digest).unlink()
    lab.store.folder.joinpath("notes.txt").write_text("mine")
    written = dt.datetime.fromtimestamp(lab.artifact(one.digest).stat().st_mtime, dt.UTC)
    assert lab.store.sweep(written + dt.timedelta(minutes=59)) == 0
    assert lab.artifact(one.digest).exists()
    assert lab.store.sweep(written + dt.timedelta(minutes=61)) == 1
    assert sorted(path.name for path in lab.store.folder.glob("[!.]*")) == sorted(
        ["notes.txt", lab.artifact(other.digest).name, lab.envelope(other.digest).name]
    )


def test_an_empty_or_missing_store_has_no_releases(lab: World) -> None:
    assert lab.store.survey() == ([], [])
    lab.store.folder.mkdir()
    assert lab.store.survey() == ([], [])
    assert lab.store.sweep(NOON) == 0


def test_a_store_whose_folder_is_a_file_is_said(lab: World) -> None:
    lab.store.folder.write_text("")
    with pytest.raises(Unreachable, match="cannot be written: File exists"):
        lab.build()


def test_two_builders_of_one_manifest_are_told_apart(lab: World) -> None:
    built = lab.build()
    named = Builder(name="ci", key=write_key(lab.folder / "ci"))
    lab.store = ReleaseStore(lab.store.folder, (named, *lab.store.builders))
    lab.key = lab.folder / "ci"
    assert lab.store.verify(built.digest).builder == "lab"
    assert lab.build("2").builder == "ci"


def test_worlds_have_keys_of_their_own(lab: World) -> None:
    (lab.folder / "other").mkdir()
    other = world(lab.folder / "other")
    built = other.build()
    lab.store.folder.mkdir()
    for path in (other.artifact(built.digest), other.envelope(built.digest)):
        shutil.copy(path, lab.store.folder)
    assert lab.store.list() == []
