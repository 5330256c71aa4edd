"""What a change was asked, measured and answered for: keys, features, budgets, reviews."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """See adapters/records/models."""

    dependencies: ClassVar[Any] = [("records", "0003_delivery")]

    operations: ClassVar[Any] = [
        migrations.AddField("change", "author_key", models.TextField(default=""), preserve_default=False),
        migrations.AddField("change", "executor_key", models.TextField(default=""), preserve_default=False),
        migrations.AddField("change", "procedure", models.TextField(default=""), preserve_default=False),
        migrations.AddField("change", "standard", models.TextField(default=""), preserve_default=False),
        migrations.AddField("change", "dependants", models.TextField(default="[]"), preserve_default=False),
        migrations.AddField("change", "customers", models.BigIntegerField(null=True)),
        migrations.AddField("change", "budgets", models.TextField(default="{}"), preserve_default=False),
        migrations.AddField("change", "features", models.TextField(default="{}"), preserve_default=False),
        migrations.AddField("change", "committed", models.TextField(default="[]"), preserve_default=False),
        migrations.AddField("change", "consent_until", models.DateTimeField(null=True)),
        migrations.AddField("change", "reviewed", models.DateTimeField(null=True)),
        migrations.AddField("change", "reviewed_by", models.TextField(default=""), preserve_default=False),
        migrations.AddIndex("change", models.Index(fields=["ended"], name="change_ended")),
    ]
