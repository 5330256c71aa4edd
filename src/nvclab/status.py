"""What is running, as plain data: for `nvclab status`, its --json, and the supervisor's control socket."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nvclab.cluster import Cluster

if TYPE_CHECKING:
    from nvclab.data_centre import DataCentre
    from nvclab.faults.board import FaultBoard
    from nvclab.keeper import Kept


def of(centre: DataCentre, board: FaultBoard) -> dict[str, Any]:
    """The lab's status; asks every part whether it does its work, all at once, so a frozen one costs two seconds."""
    kept = list(centre.keeper)
    with ThreadPoolExecutor(max_workers=max(len(kept), 1)) as pool:
        states = list(pool.map(lambda item: _state(item[1]), kept))
    ports = centre.record.ports
    return {
        "id": centre.record.id,
        "pid": centre.record.pid,
        "folder": str(centre.layout.folder),
        "platform": str(centre.layout.at("platform.toml")),
        "url": f"http://127.0.0.1:{ports['http']}",
        "https_url": f"https://localhost:{ports['https']}",
        "ports": ports,
        "parts": [
            {
                "name": name,
                "state": state,
                "pid": item.part.process.pid,
                "port": ports.get(name, ports["http"] if name == "proxy" else None),
                "restarts": item.restarts,
                "problem": item.problem,
            }
            for (name, item), state in zip(kept, states, strict=True)
        ],
        "cluster": _cluster(centre),
        "faults": board.active(),
        "users": centre.wishes.users,
        "customers": figures(centre),
    }


def _cluster(centre: DataCentre) -> dict[str, Any]:
    """What each host's Patroni says of itself; empty without a cluster."""
    if not isinstance(centre.databases, Cluster):
        return {}
    said = {name: host.patroni() for name, host in centre.databases.hosts.items()}
    return {name: {key: found.get(key) for key in ("role", "state", "timeline")} for name, found in said.items()}


def figures(centre: DataCentre) -> dict[str, Any]:
    """What the customers see; empty before their first report."""
    path = centre.customers.figures_file
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _state(kept: Kept) -> str:
    """One of: ready, not ready, stopped (on purpose), restarting, failed (given up)."""
    if kept.problem:
        return "failed"
    if not kept.running:
        return "restarting" if kept.wanted else "stopped"
    return "ready" if kept.part.ready() else "not ready"
