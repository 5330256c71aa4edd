"""Django, set up at run time: there is no settings file, and no database but those that are opened by name."""

from __future__ import annotations

import secrets

import django
from django.apps import apps
from django.conf import settings

APP = "nvcops.adapters.records"


def configure() -> None:
    """Set Django up, once in a process. A door that needs more of its settings sets them on `django.conf.settings`."""
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=[APP],
            DATABASES={},
            USE_TZ=True,
            TIME_ZONE="UTC",
            USE_I18N=False,
            SECRET_KEY=secrets.token_urlsafe(32),
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            LOGGING_CONFIG=None,
        )
    if not apps.ready:
        django.setup()
