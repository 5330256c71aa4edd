"""With which settings a copy runs: those of the live server that decide plans and speed, within this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nvcops.adapters.backup.repository import Repository

# In the units in which pg_settings says them, which is how the command line reads a bare number.
ASKED = """
SELECT name, setting FROM pg_settings
WHERE (category LIKE 'Query Tuning%%' AND setting IS DISTINCT FROM boot_val) OR name = ANY (%s)"""
_NAMED = (
    "autovacuum_work_mem",
    "backend_flush_after",
    "bgwriter_delay",
    "bgwriter_lru_maxpages",
    "checkpoint_completion_target",
    "checkpoint_flush_after",
    "checkpoint_timeout",
    "default_toast_compression",
    "effective_io_concurrency",
    "full_page_writes",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "min_wal_size",
    "shared_buffers",
    "temp_buffers",
    "wal_buffers",
    "wal_compression",
    "work_mem",
)
_PAGE_BYTES = 8192
_SHARE_OF_MEMORY = 4  # the live server runs on this machine too, perhaps, and the copy must not push it out


def live_settings(repository: Repository) -> dict[str, str]:
    """What the live server runs with.

    Raises:
        TargetError: no primary answers.
    """
    return {name: setting for name, setting in repository.source.rows(ASKED, list(_NAMED)) if setting is not None}


def bounded(settings: Mapping[str, str], memory_bytes: int) -> dict[str, str]:
    """The same, with no more shared buffers than a quarter of this machine's memory.

    >>> bounded({"shared_buffers": "16384", "work_mem": "4096"}, 256 << 20)
    {'shared_buffers': '8192', 'work_mem': '4096'}
    """
    if "shared_buffers" not in settings:
        return dict(settings)
    pages = min(int(settings["shared_buffers"]), memory_bytes // _SHARE_OF_MEMORY // _PAGE_BYTES)
    return {**settings, "shared_buffers": str(pages)}


def memory_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
