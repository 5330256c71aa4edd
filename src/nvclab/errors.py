"""What the lab says when it cannot do something: a sentence, and a hint; it ends with 3.

LabError              3
├── MissingPart       3   a program that the lab needs is not installed
├── PartFailed        3   a part was started and did not become ready, or a tool ended with an error
├── LabBusy           3   another supervisor holds this folder
├── NotRunning        3   no lab runs in this folder
└── UnknownFault      3   there is no fault by that name
"""

from __future__ import annotations

import errno


class LabError(Exception):
    """A sentence that says what is wrong, and a hint that says what to do about it."""

    exit_code = 3

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


class MissingPart(LabError):
    """A program that the lab needs is not installed."""


class PartFailed(LabError):
    """A part was started and did not become ready, or a tool ended with an error."""


class LabBusy(LabError):
    """Another supervisor holds this folder."""


class NotRunning(LabError):
    """No lab runs in this folder."""


class UnknownFault(LabError):
    """There is no fault by that name."""


_OF_THE_SYSTEM = {
    errno.ENOSPC: ("The disk is full", "make room, or choose another --dir"),
    errno.EDQUOT: ("The disk quota is used up", "make room, or choose another --dir"),
    errno.EROFS: ("The file system is read-only", "choose another --dir"),
    errno.EACCES: ("No permission", "choose a --dir that is yours"),
    errno.EPERM: ("No permission", "choose a --dir that is yours"),
    errno.ENOTDIR: ("That is not a folder", "choose another --dir"),
    errno.EEXIST: ("That exists already, and is not a folder", "choose another --dir"),
    errno.EMFILE: ("Too many open files", "ulimit -n 20000"),
}


def explained(error: OSError) -> LabError:
    """The system's error as one of our sentences."""
    sentence, hint = _OF_THE_SYSTEM.get(error.errno or 0, (error.strerror or str(error), ""))
    where = f": {error.filename}" if error.filename else ""
    return LabError(f"{sentence}{where}.", hint=hint)
