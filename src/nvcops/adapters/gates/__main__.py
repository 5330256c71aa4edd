"""A gate's own process: it is asked on its standard input, and answers on its standard output."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from types import FrameType

import msgspec

from nvcops.adapters.gates.asked import SEEDED, Asked, CannotTell
from nvcops.core.errors import NvcopsError
from nvcops.core.gates import GateReport, GateVerdict, unknown
from nvcops.core.manifest.delivery import GATE_KINDS

_FILE_BYTES_MAX = 1 << 30


def answer(asked: Asked) -> GateReport:
    """Ask a gate, or its control. What a control refuses must be the fault that was planted, else it proves nothing."""
    if asked.kind not in GATE_KINDS:
        return unknown(f"there is no gate of kind {asked.kind!r}")
    gate = importlib.import_module(f"nvcops.adapters.gates.{asked.kind}")
    try:
        report: GateReport = gate.judge(gate.seed(asked) if asked.seeded and not asked.brought else asked)
    except CannotTell as error:
        return unknown(str(error))
    except NvcopsError as error:
        return unknown(error.sentence)
    if asked.seeded and not asked.brought and report.verdict is GateVerdict.REFUSED and not _found(report, asked.kind):
        return unknown(f"it refused something else than its seeded fault: {report.sentence}")
    return report


def _found(report: GateReport, kind: str) -> bool:
    names = {SEEDED, SEEDED.replace("_", "-")} | ({"jinja2"} if kind == "vulnerabilities" else set())
    if kind == "performance":  # its fault is the slowness itself: nothing else is different
        return True
    return any(name in line.text or name in line.file for line in report.lines for name in names)


def _take_all_along(_number: int, _frame: FrameType | None) -> None:
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Answer one question."""
    signal.signal(signal.SIGTERM, _take_all_along)  # who asked is gone: nothing that was started stays
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES_MAX, _FILE_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    sys.stdout.buffer.write(msgspec.json.encode(answer(asked)))


if __name__ == "__main__":
    main()
