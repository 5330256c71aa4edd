#!/usr/bin/env python3
"""Measure on a restored copy which settings, pools and tables gain something under the last week's statements.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "db-optimization", *sys.argv[1:]])
