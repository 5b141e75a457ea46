"""The service: started once, it does several tasks at a time, each in a thread of its own."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conversation import Conversation, Failed


def keep(task: dict[str, Any], cancelled: threading.Event, log: Callable[[str], None]) -> None:
    """Keep the lines that are long enough."""
    least, kept = task["parameters"]["min_length"], 0
    with Path(task["inputs"]["lines"]).open() as source, Path(task["outputs"]["lines"]).open("w") as target:
        for line in source:
            if cancelled.is_set():
                raise Failed("it was cancelled")
            if len(line.rstrip("\n")) >= least:
                target.write(line)
                kept += 1
    log(f"kept {kept} lines")


if __name__ == "__main__":
    conversation = Conversation(keep)
    conversation.connect()
    # Load here what is loaded once: a model, a table, a connection.
    conversation.serve()
