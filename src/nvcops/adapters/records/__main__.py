"""`python -m nvcops.adapters.records [NAME]`: write the migration that the records' fields now need, if any."""

from __future__ import annotations

import sys

from nvcops.adapters.records.setup import configure

if __name__ == "__main__":
    configure()
    from django.core.management import call_command

    call_command("makemigrations", "records", *(["--name", sys.argv[1]] if sys.argv[1:] else []))
