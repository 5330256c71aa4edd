"""Probes: each kind asks what it is told, one prober looks at all of them."""

from __future__ import annotations

from collections.abc import Sequence

from nvcops.adapters.probes.making import Makers
from nvcops.adapters.probes.prober import LoopProber
from nvcops.core.manifest import Manifest
from nvcops.core.watch import Probe, Prober

__all__ = ["open_prober"]


def open_prober(manifest: Manifest, probes: Sequence[Probe]) -> Prober:
    """Whoever looks at the probes of a platform; nothing is asked before it runs."""
    makers = Makers(manifest)
    return LoopProber(probes, makers.asker, makers.close)
