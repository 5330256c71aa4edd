"""The error tree. Every error is a sentence with a hint; its exit code is what a script or scheduler sees.

NvcopsError                 3
├── ManifestError           3   platform.toml is wrong: file, line, what is expected
├── UsageError              3   a flag or an argument is wrong
├── NotFoundError           3   there is no such run, procedure, entry, step ...
├── TargetError             3   a part of the platform did not answer, so nothing is known about it
│   ├── Unreachable             nothing listens, or the connection was refused or cut
│   ├── DeadlineExceeded        it listens, but did not answer in time
│   └── Refused                 it answered no: wrong password, missing privilege, unknown command
├── RunError                3
│   ├── LockHeld                another run holds the lock on this target
│   ├── StepFailed          2   a step raised, after its retries
│   ├── RunWaiting          3   the run waits for a person; it is not over
│   └── RunCancelled        3
├── NotAllowed              3   the roster does not let this person do that
├── StateError              3   our own files: full disk, read-only folder, locked store
└── EvidenceError           2   the evidence does not verify: names the first bad index
"""

from __future__ import annotations


class NvcopsError(Exception):
    """A sentence that says what is wrong, and a hint that says what to do about it."""

    exit_code = 3

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders (journals, queues) with their hint."""
        return _rebuild, (type(self), self.sentence, self.hint)


def _rebuild(kind: type[NvcopsError], sentence: str, hint: str) -> NvcopsError:
    return kind(sentence, hint=hint)


class ManifestError(NvcopsError):
    """platform.toml is wrong."""


class UsageError(NvcopsError):
    """A flag or an argument is wrong."""


class NotFoundError(NvcopsError):
    """There is nothing by that name."""


class TargetError(NvcopsError):
    """A part of the platform did not answer, so nothing is known about it."""


class Unreachable(TargetError):
    """Nothing listens there, or the connection was refused or cut."""


class DeadlineExceeded(TargetError):
    """It listens, but did not answer in time."""


class Refused(TargetError):
    """It answered no: wrong password, missing privilege, unknown command."""


class RunError(NvcopsError):
    """A run cannot go on."""


class LockHeld(RunError):
    """Another run holds the lock on this target."""


class StepFailed(RunError):
    """A step raised, after its retries."""

    exit_code = 2


class RunWaiting(RunError):
    """The run waits for a person; it is not over."""


class RunCancelled(RunError):
    """Somebody cancelled the run."""


class NotAllowed(NvcopsError):
    """The roster does not let this person do that."""


class StateError(NvcopsError):
    """Our own files: a full disk, a read-only folder, a locked store."""


class EvidenceError(NvcopsError):
    """The evidence does not verify; the sentence names the first bad index."""

    exit_code = 2
