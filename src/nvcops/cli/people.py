"""Who is speaking: `--as NAME --key FILE`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from nvcops import wiring
from nvcops.adapters.identity_ssh import Signer, home_folder
from nvcops.core.manifest import Manifest

person_options = (
    click.option(
        "--as", "person", metavar="NAME", help="Who you are in the roster. Default: NVCOPS_PERSON, or your key's owner."
    ),
    click.option(
        "--key",
        type=click.Path(path_type=Path),
        help="Your SSH key: private, or public with the private one in your agent. Default: NVCOPS_KEY, or ~/.ssh.",
    ),
)


def signer_of(manifest: Manifest, person: str | None, key: Path | None) -> Signer:
    """The person at the keyboard, proven by their key when they sign."""
    return wiring.find_signer(manifest.people, person, key, os.environ, home_folder())
