"""The first tables, and the outbox of evidence beside them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models

from nvcops.adapters.evidence.outbox import create_outbox


def make_outbox(_apps: Any, editor: Any) -> None:
    """The same table that the records of runs have."""
    create_outbox(editor.connection.connection)


class Migration(migrations.Migration):
    """From nothing."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar[list[Any]] = [
        migrations.RunPython(make_outbox),
        migrations.CreateModel(
            name="Beat",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("host", models.TextField()),
                ("last", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="ActionItem",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("incident", models.BigIntegerField()),
                ("text", models.TextField()),
                ("owner", models.TextField()),
                ("due", models.DateField()),
                ("created", models.DateTimeField()),
                ("measure", models.TextField()),
                ("procedure", models.TextField()),
                ("closed", models.DateTimeField(null=True)),
                ("closed_by", models.TextField()),
                ("note", models.TextField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["incident"], name="actionitem_incident"),
                    models.Index(fields=["closed", "due"], name="actionitem_closed_due"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("fingerprint", models.TextField(primary_key=True, serialize=False)),
                ("labels", models.TextField()),
                ("annotations", models.TextField()),
                ("source", models.TextField()),
                ("url", models.TextField()),
                ("category", models.TextField()),
                ("starts", models.DateTimeField()),
                ("noticed", models.DateTimeField()),
                ("updated", models.DateTimeField()),
                ("ends", models.DateTimeField(null=True)),
                ("expires", models.DateTimeField(null=True)),
                ("times", models.BigIntegerField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["ends", "expires"], name="alert_ends_expires"),
                    models.Index(fields=["expires"], name="alert_expires"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Clock",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("incident", models.BigIntegerField()),
                ("rule", models.TextField()),
                ("title", models.TextField()),
                ("began", models.DateTimeField()),
                ("due", models.DateTimeField()),
                ("met", models.DateTimeField(null=True)),
                ("met_by", models.TextField()),
                ("reference", models.TextField()),
                ("warned", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["incident"], name="clock_incident"),
                    models.Index(fields=["met", "due"], name="clock_met_due"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("incident", models.BigIntegerField()),
                ("time", models.DateTimeField()),
                ("kind", models.TextField()),
                ("person", models.TextField()),
                ("text", models.TextField()),
                ("data", models.TextField()),
            ],
            options={
                "indexes": [models.Index(fields=["incident", "time"], name="event_incident_time")],
            },
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("route", models.TextField()),
                ("receiver", models.TextField()),
                ("labels", models.TextField()),
                ("opened", models.DateTimeField()),
                ("due", models.DateTimeField()),
                ("told_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["due"], name="group_due")],
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("title", models.TextField()),
                ("state", models.TextField()),
                ("severity", models.TextField()),
                ("inferred", models.TextField()),
                ("reasons", models.TextField()),
                ("overridden_by", models.TextField()),
                ("override_reason", models.TextField()),
                ("source", models.TextField()),
                ("services", models.TextField()),
                ("security", models.BooleanField()),
                ("personal_data", models.BooleanField()),
                ("began", models.DateTimeField()),
                ("detected", models.DateTimeField()),
                ("acknowledged", models.DateTimeField(null=True)),
                ("acknowledged_by", models.TextField()),
                ("mitigated", models.DateTimeField(null=True)),
                ("resolved", models.DateTimeField(null=True)),
                ("closed", models.DateTimeField(null=True)),
                ("resolution", models.TextField()),
                ("roles", models.TextField()),
                ("suggestions", models.TextField()),
                ("links", models.TextField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["state"], name="incident_state"),
                    models.Index(fields=["detected"], name="incident_detected"),
                    models.Index(fields=["resolved"], name="incident_resolved"),
                ],
            },
        ),
        migrations.CreateModel(
            name="IncidentAlert",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("incident", models.BigIntegerField()),
                ("fingerprint", models.TextField()),
                ("name", models.TextField()),
                ("category", models.TextField()),
                ("labels", models.TextField()),
                ("summary", models.TextField()),
                ("value", models.FloatField(null=True)),
                ("starts", models.DateTimeField()),
                ("ends", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["incident"], name="incidentalert_incident"),
                    models.Index(fields=["fingerprint"], name="incidentalert_fingerprint"),
                    models.Index(fields=["ends"], name="incidentalert_ends"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Member",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("group", models.TextField()),
                ("fingerprint", models.TextField()),
                ("told", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["group"], name="member_group"),
                    models.Index(fields=["fingerprint"], name="member_fingerprint"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("to", models.TextField()),
                ("channel", models.TextField()),
                ("subject", models.TextField()),
                ("body", models.TextField()),
                ("purpose", models.TextField()),
                ("created", models.DateTimeField()),
                ("due", models.DateTimeField()),
                ("state", models.TextField()),
                ("page", models.TextField()),
                ("incident", models.BigIntegerField(null=True)),
                ("payload", models.TextField()),
                ("attempts", models.BigIntegerField()),
                ("leased_by", models.TextField()),
                ("lease_until", models.DateTimeField(null=True)),
                ("sent", models.DateTimeField(null=True)),
                ("receipt", models.TextField()),
                ("error", models.TextField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["state", "due"], name="message_state_due"),
                    models.Index(fields=["page"], name="message_page"),
                    models.Index(fields=["incident"], name="message_incident"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Override",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("rotation", models.TextField()),
                ("person", models.TextField()),
                ("starts", models.DateTimeField()),
                ("ends", models.DateTimeField()),
                ("author", models.TextField()),
                ("reason", models.TextField()),
                ("created", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["rotation", "ends"], name="override_rotation_ends")],
            },
        ),
        migrations.CreateModel(
            name="Page",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("about", models.TextField()),
                ("incident", models.BigIntegerField(null=True)),
                ("policy", models.TextField()),
                ("category", models.TextField()),
                ("summary", models.TextField()),
                ("opened", models.DateTimeField()),
                ("step", models.BigIntegerField()),
                ("round", models.BigIntegerField()),
                ("next", models.DateTimeField(null=True)),
                ("acknowledged", models.DateTimeField(null=True)),
                ("acknowledged_by", models.TextField()),
                ("resolved", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["resolved", "next"], name="page_resolved_next"),
                    models.Index(fields=["about"], name="page_about"),
                    models.Index(fields=["incident"], name="page_incident"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Reach",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("person", models.TextField()),
                ("channel", models.TextField()),
                ("code_sha256", models.TextField()),
                ("sent", models.DateTimeField()),
                ("confirmed", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["person", "sent"], name="reach_person_sent")],
            },
        ),
        migrations.CreateModel(
            name="Silence",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("matchers", models.TextField()),
                ("starts", models.DateTimeField()),
                ("ends", models.DateTimeField()),
                ("author", models.TextField()),
                ("reason", models.TextField()),
                ("created", models.DateTimeField()),
                ("reminded", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(fields=["ends"], name="silence_ends")],
            },
        ),
        migrations.CreateModel(
            name="Tick",
            fields=[
                ("key", models.TextField(primary_key=True, serialize=False)),
                ("incident", models.BigIntegerField()),
                ("phase", models.TextField()),
                ("item", models.TextField()),
                ("by", models.TextField()),
                ("time", models.DateTimeField()),
                ("note", models.TextField()),
            ],
            options={
                "indexes": [models.Index(fields=["incident"], name="tick_incident")],
            },
        ),
    ]
