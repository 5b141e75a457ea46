"""The verbs, one small module each: a function `command`, annotated with its arguments, and `EXAMPLES`.

A verb's module imports nothing heavy before its `command` runs, so that help for all of them is quick.
"""

from __future__ import annotations

import importlib
from types import ModuleType

GROUPS = {
    "A federation on this machine": ["up", "down", "status", "demo", "doctor", "perf"],
    "Definitions": ["apply", "diff", "get", "describe", "delete"],
    "Runs": [
        "submit",
        "watch",
        "wait",
        "logs",
        "events",
        "outputs",
        "explain",
        "suspend",
        "resume",
        "cancel",
    ],
    "Services": ["server", "agent", "node"],
    "About": ["version"],
}
MODULES = frozenset(verb for verbs in GROUPS.values() for verb in verbs)


def load(verb: str) -> ModuleType:
    """The module of a verb."""
    return importlib.import_module(f"{__name__}.{verb}")
