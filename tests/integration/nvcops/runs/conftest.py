from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the helpers here are also modules of the driver's own process

from runs_fixtures import drive, folder, only_the_tanks, runs, start_driver

__all__ = ["drive", "folder", "only_the_tanks", "runs", "start_driver"]
