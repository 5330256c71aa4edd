"""The workloads of the index advisor's benchmark: TPC-H and SSB on a server of one's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvclab.parts import postgres
from nvclab.parts.postgres import Postgres
from nvcops.adapters.backup.tools import find_tools
from nvcops.adapters.clones.copy import RunningCopy
from nvcops.adapters.clones.session import door
from nvcops.core import queries
from nvcops.core.workload import Statement

HERE = Path(__file__).parent
# What the published comparison leaves out: without an index on their inner tables they alone are all of the cost.
LEFT_OUT = ("minimum_cost_supplier", "small_quantity_orders", "part_promotion")
_CHUNK = 1 << 20
_SETTINGS = {
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",
    "autovacuum": "off",
}


def statements(name: str) -> dict[str, Statement]:
    """The statements of a workload by their names, each called once."""
    texts = queries.parse((HERE / f"{name}.sql").read_text(encoding="utf-8"))
    return {
        title: Statement(id=number, text=text, calls=1, total_s=1, arguments=((),))
        for number, (title, text) in enumerate(texts.items(), 1)
    }


@contextmanager
def loaded(scale: float) -> Iterator[RunningCopy]:
    """A server with both workloads' rows, analysed."""
    rows = Path(tempfile.mkdtemp(prefix="nvcops-tpch-"))
    try:
        with postgres.temporary(settings=_SETTINGS) as server:
            generator = str(Path(sys.executable).with_name("tpchgen-cli"))
            argv = [generator, "csv", "--scale-factor", str(scale), "--output-dir", str(rows), "--quiet"]
            subprocess.run(argv, check=True, timeout=900)
            _fill(server, rows)
            shutil.rmtree(rows)
            tools = find_tools(server.binaries.major())
            yield RunningCopy(door=door(server.url(), "postgres"), data=server.data, tools=tools)
    finally:
        shutil.rmtree(rows, ignore_errors=True)


def _fill(server: Postgres, rows: Path) -> None:
    schemas = [queries.parse((HERE / f"{name}_schema.sql").read_text(encoding="utf-8")) for name in ("tpch", "ssb")]
    with server.connect() as session:
        session.execute(schemas[0]["tables"].encode())
        for file in sorted(rows.glob("*.csv")):
            words = f"COPY {file.stem} FROM STDIN (FORMAT csv, HEADER)"
            with session.cursor().copy(words.encode()) as copy, file.open("rb") as handle:
                while piece := handle.read(_CHUNK):
                    copy.write(piece)
        session.execute("VACUUM (ANALYZE)")
        session.execute(schemas[1]["tables"].encode())
        session.execute("VACUUM (ANALYZE)")
        session.execute("CHECKPOINT")
