"""What people call the kinds of things, and what the hub calls them."""

from __future__ import annotations

from bdw_fed.cli.exits import UsageError

KINDS = {
    "run": "Run",
    "runs": "Run",
    "workflow": "Workflow",
    "workflows": "Workflow",
    "wf": "Workflow",
    "step": "Step",
    "steps": "Step",
    "topology": "Topology",
    "topologies": "Topology",
    "quota": "Quota",
    "quotas": "Quota",
    "agent": "Agent",
    "agents": "Agent",
    "cluster": "Agent",
    "clusters": "Agent",
}

_KNOWN = "runs, workflows, steps, topologies, quotas, clusters, pools"


def kind_of(word: str) -> str:
    """The kind behind what a person typed. UsageError with the possible ones."""
    kind = KINDS.get(word.lower())
    if kind is None:
        raise UsageError(f"there is no kind {word!r}; expected one of {_KNOWN}")
    return kind


def kind_and_name(kind: str, name: str | None) -> tuple[str, str]:
    """Both from `KIND NAME` or `KIND/NAME`."""
    if name is None and "/" in kind:
        kind, _, name = kind.partition("/")
    if not name and kind.lower() not in KINDS:
        raise UsageError(f"of which kind is {kind}? Say for example run {kind}; the kinds are {_KNOWN}")
    if not name:
        raise UsageError(f"which {kind}? Say {kind} NAME or {kind}/NAME")
    return kind_of(kind), name
