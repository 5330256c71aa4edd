#!/usr/bin/env python3
"""Say why the database is slow now: who waits for whom, since when, after what change, and what to do next.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "db-diagnostics", *sys.argv[1:]])
