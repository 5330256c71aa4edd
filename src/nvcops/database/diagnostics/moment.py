"""A moment of the database: what was read of it to find why it is slow, and what a cause of that is."""

from __future__ import annotations

import datetime as dt

import msgspec

from nvcops.core.statements import Waits
from nvcops.core.target import Change
from nvcops.core.workload import Workload
from nvcops.database.diagnostics.chains import Held, Session

# --- Facts ---


class Prepared(msgspec.Struct, frozen=True):
    """A prepared transaction: it has locks and no session."""

    gid: str
    owner: str
    age_s: float


class Holder(msgspec.Struct, frozen=True):
    """How many connections an application has in a state."""

    application: str
    user: str
    state: str
    count: int


class Sender(msgspec.Struct, frozen=True):
    """A standby that receives the log."""

    name: str
    state: str
    sync_state: str
    flush_s: float
    replay_s: float


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """A standby of the manifest: why it does not answer, else how it follows."""

    name: str
    trouble: str = ""
    paused: bool = False
    receiver: str = ""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How a service answers its customers: seconds on average in the last minutes, and in the hour before."""

    name: str
    what: str
    now_s: float = 0.0
    now: float = 0.0
    before_s: float = 0.0
    before: float = 0.0


class Run(msgspec.Struct, frozen=True):
    """A run of ours that was under way, or ended, in the last hour."""

    id: str
    procedure: str
    started: dt.datetime
    ended: dt.datetime | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read at a moment. `trouble` says why the primary told nothing.

    `lately` and `usually` are the statements of the last minutes and of the week before, where they are known. `unread`
    says which questions were refused, and why.
    `versions` are the instances' releases, `disks` the shares of their size that are used.
    """

    at: dt.datetime
    name: str
    trouble: str = ""
    unread: dict[str, str] = {}
    connections: int = 0
    connections_max: int = 0
    synchronous: str = ""
    sessions: tuple[Session, ...] = ()
    held: tuple[Held, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    holders: tuple[Holder, ...] = ()
    senders: tuple[Sender, ...] = ()
    standbys: tuple[Standby, ...] = ()
    waits: Waits = Waits(observed_s=0.0)
    lately: Workload | None = None
    usually: Workload | None = None
    services: tuple[Served, ...] = ()
    changes: tuple[Change, ...] = ()
    runs: tuple[Run, ...] = ()
    versions: dict[str, str] = {}
    disks: dict[str, float] = {}


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is slow or stands: a sentence, what it was seen in, and what to do next.

    `weight` is how many sessions it holds up; `pid` the session that it ends at, 0 where it is none.
    """

    kind: str
    sentence: str
    evidence: tuple[str, ...]
    next_step: str
    weight: float
    pid: int = 0
    critical: bool = False
