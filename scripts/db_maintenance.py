#!/usr/bin/env python3
"""Vacuum, analyse and freeze the tables that need it and build their indexes anew, worst first.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "db-maintenance", *sys.argv[1:]])
