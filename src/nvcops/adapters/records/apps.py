"""What Django knows the records by."""

from __future__ import annotations

from django.apps import AppConfig


class RecordsConfig(AppConfig):
    """The app of the records."""

    name = "nvcops.adapters.records"
    label = "records"
