"""A step that takes its time and says in which pod it was executed."""

import socket
import time
from pathlib import Path


def wait(rows: Path, seconds: float, out: dict[str, Path]) -> None:
    """The pod's name: a container's host name is that of its pod."""
    time.sleep(seconds)  # the work that this step stands for
    out["pod"].write_text(f"{socket.gethostname()}\n")
