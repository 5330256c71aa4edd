"""The latest start of an alert that its source has said."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """See adapters/records/models."""

    dependencies: ClassVar[Any] = [("records", "0001_initial")]
    operations: ClassVar[Any] = [migrations.AddField("alert", "began_again", models.DateTimeField(null=True))]
