"""`nvcops release ...`: what was built, what stands in it, and whether it is still what was signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.cli.context import answer, aside, json_option, manifest_path, notify, plain, target_option
from nvcops.cli.report import local
from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError
from nvcops.core.releases import Inventory, Release
from nvcops.core.units import Bytes
from nvcops.delivery.releases import Difference, difference
from nvcops.wiring.releases import Sources, build


@click.group()
def release() -> None:
    """Build releases, verify them, and roll them out."""


@release.command("build")
@click.argument("source", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--version", required=True, help="Its version: letters, digits and ._+!-.")
@click.option("--package", "packages", multiple=True, required=True, help="A package's folder in SOURCE; repeatable.")
@click.option("--lock", default="requirements.txt", show_default=True, help="The locked requirements, with hashes.")
@click.option("--migrations", default="", help="Their folder. Default: `migrations` of the first package, if there.")
@click.option("--wheels", default="", help="A folder with wheels of the lock, for hosts that reach no registry.")
@click.option("--revision", help="The source's commit. Default: what is checked out in SOURCE.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="NVCOPS_BUILDER_KEY",
    required=True,
    help="The builder's Ed25519 key file; its public half stands in [[delivery.builders]].",
)
@target_option
@json_option
def build_release(
    source: Path,
    version: str,
    revision: str | None,
    key: Path,
    target_path: Path | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Build the folder SOURCE into a signed release. The same source gives the same digest."""
    manifest = wiring.load(manifest_path(target_path))
    sources = Sources(root=source, **places)  # packages, lock, migrations, wheels
    built, fresh = build(manifest, version, sources, key, revision=revision, tell=_tell(as_json))

    def lines() -> Iterator[str]:
        yield f"{'built' if fresh else 'was built before:'} {built.name} {built.version}"
        yield from _about(built, ZoneInfo(manifest.platform.time_zone))

    answer({"release": built, "fresh": fresh}, as_json, lines)


@release.command("list")
@target_option
@json_option
def list_releases(target_path: Path | None, as_json: bool) -> int:
    """List the releases whose statement verifies, the newest first; 1 when others had to be passed over."""
    manifest = wiring.load(manifest_path(target_path))
    releases, troubles = wiring.open_releases(manifest).survey()
    zone = ZoneInfo(manifest.platform.time_zone)

    def lines() -> Iterator[str]:
        for one in releases:
            about = f"{Bytes(one.size)!s:>10}  {one.components:>4} components  by {one.builder}  {_short(one.revision)}"
            yield f"{one.digest[:16]}  {one.version:<20}  {local(one.built, zone)}  {about}".rstrip()
        if not releases:
            yield "nothing was built yet; `nvcops release build` does it"

    answer({"releases": releases, "passed_over": troubles}, as_json, lines)
    for trouble in troubles:
        notify(f"passed over: {trouble}")
    return Verdict.WARNING if troubles else Verdict.OK


@release.command("verify")
@click.argument("wanted", nargs=-1)
@target_option
@json_option
def verify_releases(wanted: tuple[str, ...], target_path: Path | None, as_json: bool) -> int:
    """Read artifacts, lists of components, statements and signatures again: of WANTED (versions, digests), or all."""
    store = wiring.open_releases(wiring.load(manifest_path(target_path)))
    known, troubles = store.survey()
    chosen = [store.find(one) for one in wanted] if wanted else known
    troubles, verified = [] if wanted else list(troubles), []
    tell = _tell(as_json)
    for one in chosen:
        tell(f"reading {one.version} ({one.digest[:16]}, {Bytes(one.size)})")
        try:
            verified.append(store.verify(one.digest))
        except EvidenceError as error:
            troubles.append(error.sentence)

    def lines() -> Iterator[str]:
        for one in verified:
            yield f"✓ {one.digest[:16]}  {one.version}  signed by {one.builder}"
        for trouble in troubles:
            yield f"✗ {trouble}"
        if not verified and not troubles:
            yield "there is no release to verify"

    answer({"verified": verified, "troubles": troubles}, as_json, lines)
    return Verdict.CRITICAL if troubles else Verdict.OK


@release.command("show")
@click.argument("wanted")
@click.option("--against", help="Another release to compare with. Default: the one that was built before it.")
@target_option
@json_option
def show_release(wanted: str, against: str | None, target_path: Path | None, as_json: bool) -> None:
    """Show what stands in a release, by its version or digest, and what it brings against another."""
    manifest = wiring.load(manifest_path(target_path))
    store = wiring.open_releases(manifest)
    chosen = store.find(wanted)
    inventory = store.inventory(chosen.digest)
    other = store.find(against) if against else next((one for one in store.list() if one.built < chosen.built), None)
    change = difference(store.inventory(other.digest), inventory) if other else None

    def lines() -> Iterator[str]:
        yield f"{chosen.name} {chosen.version}"
        yield from _about(inventory.release, ZoneInfo(manifest.platform.time_zone))
        yield from _contents(inventory)
        if other and change:
            yield f"\nagainst {other.version} ({other.digest[:16]})"
            yield from _changes(change)

    document = {
        "inventory": inventory,
        "statement": store.provenance(chosen.digest),
        "against": other,
        "difference": change,
    }
    answer(document, as_json, lines)


def _tell(quiet: bool) -> Callable[[str], None]:
    """What is being done, on stderr."""
    return (lambda _: None) if quiet else (lambda sentence: aside(plain(f"… {sentence}")))


def _short(revision: str) -> str:
    """A commit as people write it, still saying that it had changes.

    >>> _short("016e38bcbe317708485dd460dea87994fee7275a-dirty")
    '016e38bcbe31-dirty'
    """
    commit, mark, rest = revision.partition("-")
    return commit[:12] + mark + rest


def _about(one: Release, zone: ZoneInfo) -> Iterator[str]:
    yield f"digest       {one.digest}"
    yield f"built        {local(one.built, zone)} by {one.builder}"
    yield f"revision     {one.revision or 'not known'}"
    yield f"size         {Bytes(one.size)}"
    yield f"components   {one.components}, lock {one.lock[:16]}"
    last = f", the last is {one.migrations[-1].name}" if one.migrations else ""
    yield f"migrations   {len(one.migrations)}{last}"


def _contents(inventory: Inventory) -> Iterator[str]:
    yield f"files        {len(inventory.files)}"
    for component in inventory.components:
        licences = ", ".join(component.licences) or "licence not known"
        yield f"  {component.name} {component.version}  {licences}"


def _changes(change: Difference) -> Iterator[str]:
    for component in change.added:
        yield f"  + {component.name} {component.version}"
    for component in change.removed:
        yield f"  - {component.name} {component.version}"
    for one in change.updated:
        yield f"  ~ {one.name} {one.old.version} -> {one.new.version}"
    for migration in change.new_migrations:
        yield f"  + {migration.name}{', which removes what the other release may need' if migration.contract else ''}"
    for name in change.rewritten:
        yield f"  ! {name} is not the same any more"
    for name in change.withdrawn:
        yield f"  - {name}"
    counts = (len(change.new_files), len(change.changed_files), len(change.removed_files))
    yield "  {} new files, {} changed, {} removed".format(*counts)
