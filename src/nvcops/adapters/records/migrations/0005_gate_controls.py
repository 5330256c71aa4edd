"""How the positive controls of the pipeline's gates ended."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """See adapters/records/models."""

    dependencies: ClassVar[Any] = [("records", "0004_changes")]

    operations: ClassVar[Any] = [
        migrations.CreateModel(
            name="GateControl",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("definition", models.TextField()),
                ("time", models.DateTimeField()),
                ("verdict", models.TextField()),
                ("sentence", models.TextField()),
                ("run", models.TextField()),
                ("refused", models.DateTimeField(null=True)),
            ],
            options={"indexes": []},
        ),
    ]
