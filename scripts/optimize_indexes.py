#!/usr/bin/env python3
"""Find the indexes that the last week's statements lack, and prove them on a restored copy.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "optimize-indexes", *sys.argv[1:]])
