"""What a change is: its category, what it touches, its risk, who said yes, and how it ended. Pure."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec


class ChangeCategory(StrEnum):
    """The guide's categories. Standard ones are approved beforehand; major ones need an executive's word."""

    EMERGENCY = "emergency"
    STANDARD = "standard"
    NORMAL = "normal"
    MAJOR = "major"


class ChangeState(StrEnum):
    """From the request to the end; VALIDATING: it is done, and the objectives are watched."""

    REQUESTED = "requested"
    APPROVED = "approved"
    EXECUTING = "executing"
    VALIDATING = "validating"
    SUCCESSFUL = "successful"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (
            ChangeState.REQUESTED,
            ChangeState.APPROVED,
            ChangeState.EXECUTING,
            ChangeState.VALIDATING,
        )


class ChangeKind(StrEnum):
    """What is changed."""

    DEPLOYMENT = "deployment"
    RESTORE = "restore"
    INDEX = "index"
    SETTING = "setting"
    ACCESS = "access"
    MAINTENANCE = "maintenance"
    OTHER = "other"


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's signed yes: `key` is the fingerprint of the key that signed.

    `run` is where it was said as the answer to a run's step: then the run's own evidence has the signature and the key.
    """

    person: str
    time: dt.datetime
    key: str = ""
    executive: bool = False
    run: str = ""
    note: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change, by its number: C-17 is 17. `author` asked for it, `executor` carried it out; `runs` did the work.

    `digest` is what is deployed, where it is a deployment; `procedure` is what carries it out, where it is known, and
    `standard` the entry of [[changes.standard]] under which it approved itself. `risk` is a probability of failure,
    None while there is not enough data to say one; `features` are what it is made of, those that were measured.
    `budgets` are how much of each objective's error budget was left at the request. `break_glass` are the two who let
    it pass a freeze. `committed` are the moments of the commits that it brought. `consent_until`: an emergency's, by
    when somebody approves it afterwards.
    """

    number: int
    category: ChangeCategory
    kind: ChangeKind
    title: str
    reason: str
    author: str
    requested: dt.datetime
    state: ChangeState = ChangeState.REQUESTED
    planned_start: dt.datetime | None = None
    planned_end: dt.datetime | None = None
    services: tuple[str, ...] = ()
    digest: str = ""
    impact: str = ""
    rollback_plan: str = ""
    risk: float | None = None
    risk_why: str = ""
    approved_by: tuple[Consent, ...] = ()
    break_glass: tuple[Consent, ...] = ()
    executor: str = ""
    runs: tuple[str, ...] = ()
    began: dt.datetime | None = None
    done: dt.datetime | None = None
    validate_until: dt.datetime | None = None
    ended: dt.datetime | None = None
    outcome: str = ""
    incident: int | None = None
    author_key: str = ""
    executor_key: str = ""
    procedure: str = ""
    standard: str = ""
    dependants: tuple[str, ...] = ()
    customers: int | None = None
    budgets: dict[str, float] = {}
    features: dict[str, float] = {}
    committed: tuple[dt.datetime, ...] = ()
    consent_until: dt.datetime | None = None
    reviewed: dt.datetime | None = None
    reviewed_by: str = ""

    @property
    def name(self) -> str:
        """How people call it.

        >>> at = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
        >>> Change(number=17, category=ChangeCategory.NORMAL, kind=ChangeKind.INDEX, title="t", reason="r", author="a",
        ...        requested=at).name
        'C-17'
        """
        return f"C-{self.number}"
