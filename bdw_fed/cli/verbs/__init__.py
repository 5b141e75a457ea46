"""The verbs, one small module each: a function `command`, annotated with its arguments, and `EXAMPLES`.

A verb's module imports nothing heavy before its `command` runs, so that help for all of them is quick.
"""

from __future__ import annotations

import importlib
from types import ModuleType

GROUPS = {
    "A federation on this machine": ["up", "down", "status", "demo", "doctor", "perf", "simulate", "fake-agent"],
    "A federation on kind": ["kind up", "kind status", "kind partition", "kind heal", "kind link", "kind down"],
    "Steps of your own": ["step init", "step test"],
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
        "retry",
        "resubmit",
    ],
    "Caches": ["cache ls", "cache clear"],
    "Users": ["user create", "user grant", "user revoke", "user list", "user renew", "audit"],
    "Members": [
        "token create",
        "token list",
        "token delete",
        "agent join",
        "cluster accept",
        "cluster revoke",
        "node revoke",
    ],
    "Clusters": ["cordon", "uncordon", "drain", "taint"],
    "Services": ["server", "agent", "node", "relay"],
    "On Kubernetes": ["server manifest", "agent manifest", "relay manifest"],
    "About": ["version"],
}
_IN_MODULES = str.maketrans(" -", "__")
# A verb of two words, such as `kind up`, is one verb whose module is called kind_up; so is one with a dash.
MODULES = frozenset(verb for verbs in GROUPS.values() for verb in verbs)


def load(verb: str) -> ModuleType:
    """The module of a verb."""
    return importlib.import_module(f"{__name__}.{verb.translate(_IN_MODULES)}")


def joined(words: list[str]) -> list[str]:
    """A command line in which a verb of two words is one.

    >>> joined(["kind", "up", "-o", "json"])
    ['kind up', '-o', 'json']
    """
    two = " ".join(words[:2])
    return [two, *words[2:]] if len(words) > 1 and two in MODULES else words
