#!/usr/bin/env python3
"""Sum up the security events of the logs: sign-in failures, lock-outs, changes of privileges.

Written from the code by `make docs`; edit the code.
"""

import os
import sys
from pathlib import Path

nvcops = Path(__file__).resolve().parents[1] / ".venv/bin/nvcops"
command = str(nvcops) if nvcops.exists() else "nvcops"
os.execvp(command, [command, "run", "security-events-summary", *sys.argv[1:]])
