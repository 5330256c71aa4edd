#!/usr/bin/env python3
"""Check the database: connections, locks, tables, indexes, replication, and on which statements its time goes.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "db-performance-check", *sys.argv[1:]])
