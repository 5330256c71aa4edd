"""The records of alerts, pages and incidents: a Django app over SQLite or PostgreSQL, behind `core.records`."""

from __future__ import annotations

from nvcops.core.manifest import Manifest
from nvcops.core.records import Records


def open_records(manifest: Manifest) -> Records:
    """The platform's records: `state/records.sqlite`, or the database of [records]. Its tables are made where missing.

    Raises:
        ManifestError: the password cannot be read.
        StateError: it cannot be opened, or was written by another release.
    """
    from nvcops.adapters.records.setup import configure

    configure()  # Django takes longer to load than most commands to answer, and its models need it set up
    from nvcops.adapters.records.places import place_of
    from nvcops.adapters.records.store import Store

    return Store(place_of(manifest))
