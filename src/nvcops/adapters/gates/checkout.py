"""A checkout counts as a release's source only at the very commit that the release names, and without changes."""

from __future__ import annotations

from nvcops.adapters.gates.asked import Asked, CannotTell
from nvcops.adapters.gates.process import run
from nvcops.adapters.releases.statement import DIRTY

# What a checkout's own configuration could have git run is switched off.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*")


def check(asked: Asked) -> None:
    """Nothing, when the checkout is what the release was built of.

    Raises:
        CannotTell: no checkout was given, or it cannot be told, or it is another.
    """
    if asked.seeded:
        return
    if not asked.checkout:
        raise CannotTell("no checkout was given: name one with --checkout")
    if not asked.revision or asked.revision.endswith(DIRTY):
        raise CannotTell("the release was not built of a commit, so no checkout is certainly its source")
    head = _git(asked, "rev-parse", "HEAD").strip()
    if head != asked.revision:
        raise CannotTell(f"the checkout is at {head[:12]}, and the release was built of {asked.revision[:12]}")
    if changed := _git(asked, "status", "--porcelain", "--untracked-files=no").splitlines():
        raise CannotTell(f"the checkout has changes: {changed[0].strip()[:100]}")


def _git(asked: Asked, *arguments: str) -> str:
    ended = run([*_GIT, "-C", asked.checkout, *arguments], work=asked.work, environment={"GIT_OPTIONAL_LOCKS": "0"})
    if ended.code:
        raise CannotTell(f"git cannot tell what the checkout is: {ended.said}")
    return ended.output
