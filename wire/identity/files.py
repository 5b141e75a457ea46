"""Files of keys and certificates: only their owner reads them, and nobody ever reads half of one."""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, content: bytes) -> None:
    """Make a file that is there, whole, also after a loss of power. FileExistsError if there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_whole(path: Path, content: bytes) -> None:
    """Make a file or replace it as a whole."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, content)
    fresh.replace(path)
