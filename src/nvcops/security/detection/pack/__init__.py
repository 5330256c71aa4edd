"""The rules that come with nvcops: Sigma, and ours."""

from __future__ import annotations

from functools import cache
from importlib import resources

from nvcops.security.detection.rules import Pack
from nvcops.security.detection.sigma import read


@cache
def own_pack() -> Pack:
    """All of them, read once."""
    files = sorted(resources.files(__package__).iterdir(), key=lambda file: file.name)
    return read({file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".yml")})
