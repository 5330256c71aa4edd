"""HAProxy splits a service's traffic between its slots, by weights that its runtime socket takes.

What was found out by trying it, of HAProxy 2.8 (docs/decisions/slots.md; the tests try it again):
* `balance roundrobin` splits by weights exactly, once as many requests went through as the weights before add up to.
* Weights and administrative states outlive a restart only by the file of `server-state-file`, and only while the weight
  in the configuration is what it was; without the file, or with one that is damaged, the configuration's weights count.
* A restart sets all counters to 0.
* A request that a server did not answer stands in another column for each way in which that happens: see `balanced`.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nvcops.adapters.evidence.files import sync_folder, unusable, write_all
from nvcops.adapters.haproxy import HAProxy, server_rows
from nvcops.core.errors import Refused
from nvcops.core.rollouts import Balanced

WEIGHT_MAX = 256
_POLL_S = 0.1
_STATE_COLUMNS = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight "
_STATE_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyBalancer:
    """See core.rollouts.Balancer; a slot is the server of its name in `backend`. `state_file`: as HAProxy is told."""

    proxy: HAProxy
    backend: str
    slots: Sequence[str]
    state_file: Path | None = None

    def look(self) -> list[Balanced]:
        """All slots of the service; one that it does not know is missing."""
        return [balanced(row) for row in self._rows().values()]

    def share(self, weights: Mapping[str, int]) -> None:
        """Set weights: all in one command, the rising ones first; read back, and written down for a restart.

        Raises:
            Refused: it did not take them. Nothing was changed where it does not know one of the slots, or where one
                that is to get traffic is in maintenance.
            StateError: it took them, and they could not be written down.
        """
        if not weights:
            return
        rows = self._rows()
        self._check(weights, rows)
        now = {slot: balanced(rows[slot]).weight for slot in weights}
        rising = sorted(weights, key=lambda slot: (weights[slot] <= now[slot], slot))
        said = self.proxy.ask("; ".join(command for slot in rising for command in self._commands(slot, weights[slot])))
        self._check_taken(weights, said.strip())
        self._keep(weights)

    def drain(self, slot: str, deadline_s: float) -> bool:
        """Give a slot no new requests, and wait until it has none; whether that came in time."""
        self.share({slot: 0})
        end = time.monotonic() + deadline_s
        while self._sessions(slot):
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True

    def _rows(self) -> dict[str, dict[str, str]]:
        rows = [row for row in server_rows(self.proxy.ask("show stat")) if row["pxname"] == self.backend]
        if not rows:
            raise Refused(
                f"{self.proxy.name} has no backend {self.backend!r} with servers", hint="[delivery] backend names it"
            )
        return {row["svname"]: row for row in rows if row["svname"] in self.slots}

    def _check(self, weights: Mapping[str, int], rows: Mapping[str, Mapping[str, str]]) -> None:
        for slot, weight in weights.items():
            if not 0 <= weight <= WEIGHT_MAX:
                raise Refused(f"{slot} cannot have the weight {weight}", hint=f"0 to {WEIGHT_MAX}")
            if slot not in rows:
                raise Refused(
                    f"{self.proxy.name} has no server {self.backend}/{slot}",
                    hint="each slot is a server of that name in the backend",
                )
            if weight and rows[slot]["status"].startswith("MAINT"):
                raise Refused(
                    f"{self.backend}/{slot} is in maintenance: somebody put it there",
                    hint=f"`set server {self.backend}/{slot} state ready` on the runtime socket, if that is over",
                )

    def _commands(self, slot: str, weight: int) -> tuple[str, str]:
        """A server that gets nothing is drained too: what sticks to it by a cookie would come still."""
        server = f"set server {self.backend}/{slot}"
        ready = (f"{server} weight {weight}", f"{server} state ready")
        return ready if weight else (f"{server} weight 0", f"{server} state drain")

    def _check_taken(self, weights: Mapping[str, int], said: str) -> None:
        rows = self._rows()
        found = {slot: balanced(rows[slot]).weight if slot in rows else None for slot in weights}
        if said or found != dict(weights):
            raise self._not_taken(weights, found, said)

    def _not_taken(self, weights: Mapping[str, int], found: Mapping[str, int | None], said: str = "") -> Refused:
        wrong = ", ".join(f"{slot} has {found.get(slot)}" for slot in weights if found.get(slot) != weights[slot])
        return Refused(
            f"{self.proxy.name} did not take the weights"
            + (f": {wrong}" if wrong else "")
            + (f"; it said {said[:120]!r}" if said else ""),
            hint="it was restarted meanwhile, or somebody else sets weights: set them again",
        )

    def _sessions(self, slot: str) -> int:
        rows = self._rows()
        if slot not in rows:
            raise Refused(f"{self.proxy.name} has lost its server {self.backend}/{slot}", hint="who changed it?")
        return int(rows[slot]["scur"] or 0)

    def _keep(self, weights: Mapping[str, int]) -> None:
        """Write down what a restarted HAProxy reads: whole or not at all, and only what has these weights."""
        if self.state_file is None:
            return
        text = self.proxy.ask("show servers state")
        kept = state_weights(text, self.backend)
        if any(kept.get(slot) != weight for slot, weight in weights.items()):
            raise self._not_taken(weights, kept)
        scratch = self.state_file.with_name(f".{self.state_file.name}.{secrets.token_hex(4)}")
        try:
            write_all(scratch, text.encode(), os.O_EXCL)
            scratch.chmod(0o644)  # HAProxy may be another account; there is nothing secret in it
            scratch.replace(self.state_file)
            sync_folder(self.state_file.parent)
        except OSError as error:
            raise unusable(self.state_file, error) from error
        finally:
            with suppress(OSError):  # it is gone where it was put in place
                scratch.unlink()


def state_weights(text: str, backend: str) -> dict[str, int]:
    r"""The weights of a backend's servers in the answer to `show servers state`.

    >>> head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"
    >>> state_weights(head + "3 bank 1 main-1 127.0.0.1 2 0 45 1\n4 shop 1 main-1 127.0.0.1 2 0 7 1\n\n", "bank")
    {'main-1': 45}
    >>> state_weights("Permission denied\n", "bank")
    Traceback (most recent call last):
    nvcops.core.errors.Refused: the proxy did not show its servers' state: 'Permission denied'
    """
    version, _, lines = text.partition("\n")
    if version != _STATE_VERSION or not lines.startswith(_STATE_COLUMNS):
        raise Refused(f"the proxy did not show its servers' state: {text.strip()[:80]!r}")
    servers = [line.split() for line in lines.splitlines()[1:] if line.strip()]
    return {words[3]: int(words[7]) for words in servers if words[1] == backend}


def balanced(row: Mapping[str, str]) -> Balanced:
    """A server's line of `show stat`.

    Each try of a request counts in `stot`. It failed when the answer was 5xx; when the server could not be reached and
    nobody else was tried (econ); when it broke off or was too late (eresp); when somebody else was tried then (wretr,
    wredis, and of the broken off eresp as well: so the largest of the three is taken).

    >>> line = {"svname": "s1", "status": "UP", "weight": "45", "scur": "2", "stot": "90", "hrsp_5xx": "1", "econ": "1"}
    >>> balanced(line | {"eresp": "3", "wretr": "4", "wredis": "4"})
    Balanced(slot='s1', weight=45, healthy=True, sessions=2, requests=90, failed=6)
    >>> balanced(line | {"status": "DRAIN"}).weight
    0
    >>> balanced(line | {"status": "DOWN 1/2", "eresp": "", "wretr": "0", "wredis": "0"})
    Balanced(slot='s1', weight=45, healthy=False, sessions=2, requests=90, failed=None)
    """
    status = row["status"]
    gone = status.startswith(("DRAIN", "MAINT"))
    return Balanced(
        slot=row["svname"],
        weight=0 if gone else _count(row, "weight") or 0,
        healthy=status.startswith(("UP", "DRAIN")),
        sessions=_count(row, "scur"),
        requests=_count(row, "stot"),
        failed=_failed(row),
    )


def _failed(row: Mapping[str, str]) -> int | None:
    """Never more than there were requests: HAProxy counts one that broke off twice where nobody else is tried."""
    counts = [_count(row, column) for column in ("stot", "hrsp_5xx", "econ", "eresp", "wretr", "wredis")]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    requests, answered, unreached, *elsewhere = known
    return min(requests, answered + unreached + max(elsewhere))


def _count(row: Mapping[str, str], column: str) -> int | None:
    value = row.get(column) or ""
    return int(value) if value.isdigit() else None
