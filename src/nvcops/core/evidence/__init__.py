"""The tamper-evident log: what is recorded, how it is proved, and what an auditor verifies without us."""

from nvcops.core.evidence.entry import SPOOLED, Entry, Log, Redactor, utc
from nvcops.core.evidence.signed import (
    signed_entry,
    statement_bytes,
    statement_for,
    verify_signature,
    verify_signed_entry,
)
from nvcops.core.evidence.verify_evidence import commitment

__all__ = [
    "SPOOLED",
    "Entry",
    "Log",
    "Redactor",
    "commitment",
    "signed_entry",
    "statement_bytes",
    "statement_for",
    "utc",
    "verify_signature",
    "verify_signed_entry",
]
