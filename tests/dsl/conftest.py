"""The tests' directory as that of a user, whose modules lie beside each other."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
