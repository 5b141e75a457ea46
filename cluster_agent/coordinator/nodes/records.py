"""What the log says of nodes: who they are, and what they were given."""

from __future__ import annotations

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record


class NodeMet(Record, frozen=True):
    """A node's daemon has (re)started."""

    node: str
    incarnation: bytes


class Assigned(Record, frozen=True):
    """The task's next attempt is this node's; of a split per slot, `parts` is decided with its first."""

    run: RunKey
    task: bytes
    node: str
    parts: int = 0


NodeRecord = NodeMet | Assigned
