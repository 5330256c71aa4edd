"""`nvcops release ...`: what was built, what stands in it, and whether it is still what was signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nvcops import wiring
from nvcops.cli.context import answer, json_option, manifest_path, notify, target_option
from nvcops.cli.report import local
from nvcops.core.checks import Verdict
from nvcops.core.units import Bytes


@click.group()
def release() -> None:
    """Build releases, verify them, and roll them out."""


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
            about = f"{Bytes(one.size)!s:>10}  {one.components:>4} components  by {one.builder}  {one.revision[:12]}"
            yield f"{one.digest[:16]}  {one.version:<20}  {local(one.built, zone)}  {about}".rstrip()
        if not releases:
            yield "nothing was built yet; `nvcops release build` does it"

    answer({"releases": releases, "passed_over": troubles}, as_json, lines)
    for trouble in troubles:
        notify(f"passed over: {trouble}")
    return Verdict.WARNING if troubles else Verdict.OK
