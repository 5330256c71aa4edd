"""The tables of delivery and change: what was admitted, rolled out, and changed."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """See adapters/records/models."""

    dependencies: ClassVar[Any] = [("records", "0002_alert_began_again")]

    operations: ClassVar[Any] = [
        migrations.CreateModel(
            name="Admission",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("stage", models.TextField()),
                ("digest", models.TextField()),
                ("time", models.DateTimeField()),
                ("by", models.TextField()),
                ("run", models.TextField()),
                ("gates", models.TextField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["digest"], name="admission_digest"),
                    models.Index(fields=["stage", "time"], name="admission_stage_time"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Change",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("category", models.TextField()),
                ("kind", models.TextField()),
                ("title", models.TextField()),
                ("reason", models.TextField()),
                ("author", models.TextField()),
                ("requested", models.DateTimeField()),
                ("state", models.TextField()),
                ("planned_start", models.DateTimeField(null=True)),
                ("planned_end", models.DateTimeField(null=True)),
                ("services", models.TextField()),
                ("digest", models.TextField()),
                ("impact", models.TextField()),
                ("rollback_plan", models.TextField()),
                ("risk", models.FloatField(null=True)),
                ("risk_why", models.TextField()),
                ("approved_by", models.TextField()),
                ("break_glass", models.TextField()),
                ("executor", models.TextField()),
                ("runs", models.TextField()),
                ("began", models.DateTimeField(null=True)),
                ("done", models.DateTimeField(null=True)),
                ("validate_until", models.DateTimeField(null=True)),
                ("ended", models.DateTimeField(null=True)),
                ("outcome", models.TextField()),
                ("incident", models.BigIntegerField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["state"], name="change_state"),
                    models.Index(fields=["requested"], name="change_requested"),
                    models.Index(fields=["digest"], name="change_digest"),
                    models.Index(fields=["began"], name="change_began"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Rollout",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("service", models.TextField()),
                ("new", models.TextField()),
                ("version", models.TextField()),
                ("old", models.TextField()),
                ("old_version", models.TextField()),
                ("strategy", models.TextField()),
                ("phase", models.TextField()),
                ("step", models.BigIntegerField()),
                ("weight", models.BigIntegerField()),
                ("began", models.DateTimeField()),
                ("ended", models.DateTimeField(null=True)),
                ("warm_until", models.DateTimeField(null=True)),
                ("rollback_s", models.FloatField(null=True)),
                ("why", models.TextField()),
                ("wish", models.TextField()),
                ("change", models.BigIntegerField(null=True)),
                ("by", models.TextField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["phase"], name="rollout_phase"),
                    models.Index(fields=["began"], name="rollout_began"),
                    models.Index(fields=["new"], name="rollout_new"),
                ],
            },
        ),
    ]
