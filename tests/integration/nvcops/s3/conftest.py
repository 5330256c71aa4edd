from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from s3_server import bucket, credentials, server

__all__ = ["bucket", "credentials", "server"]
