"""Nodes: what they have to give, and whether they can be reached."""

from __future__ import annotations

import msgspec

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, Struct


class Taint(Struct):
    """What keeps pods away."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Struct):
    """What was decided about a node."""

    unschedulable: bool = False
    taints: list[Taint] = []


class NodeCondition(Struct):
    """One thing that is true of a node, or not, and why."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class NodeAddress(Struct):
    """Where a node is reached."""

    type: str = ""
    address: str = ""


class NodeStatus(Struct):
    """`allocatable` is what pods may have of its `capacity`; both are quantities."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: list[NodeCondition] = []
    addresses: list[NodeAddress] = []


class Node(Object):
    """A node."""

    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)

    @property
    def ready(self) -> bool:
        """Whether its kubelet says that it can run pods, and was heard of lately."""
        return any(condition.type == "Ready" and condition.status == "True" for condition in self.status.conditions)
