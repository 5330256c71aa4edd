"""The bank's errors. Each is a sentence with a hint; `exit_code` is what a script or supervisor sees.

BankError           3
├── SettingError    3   an environment variable is missing or wrong
├── MigrationError  3   the history in the database is not the history in this release
├── PartDown        3   the database or the cache is not there, or did not answer in time
│   └── OutcomeUnknown  it may have done what it was asked
├── SelfTestFailed  2   an instance did not do its work
└── BooksError      2   the books do not balance
"""

from __future__ import annotations


class BankError(Exception):
    """A sentence that says what is wrong, and a hint that says what to do about it."""

    exit_code = 3

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


class SettingError(BankError):
    """An environment variable is missing or wrong."""


class MigrationError(BankError):
    """The history in the database is not the history in this release."""


class PartDown(BankError):
    """A part the bank needs is not there, or did not answer in time. `part` is "database" or "cache"."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"the {part} is not available: {why}", hint="it is tried again by itself")
        self.part = part
        self.why = why


class OutcomeUnknown(PartDown):
    """The part was asked, and may have done it: the connection was lost, or the end of a commit was not certain."""


class SelfTestFailed(BankError):
    """An instance did not do its work."""

    exit_code = 2


class BooksError(BankError):
    """The books do not balance."""

    exit_code = 2
