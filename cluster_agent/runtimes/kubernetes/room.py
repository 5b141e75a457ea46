"""What a node of Kubernetes has for workers, and whether it takes new ones: read from its Node, and followed.

    allocatable - what our own pod asks for ─┐
    --cpus, --memory, where they are said ───┼─▶ Room ─▶ node daemon ─▶ coordinator
    unschedulable, taints ───────────────────┘

So one DaemonSet serves nodes of different sizes, and `kubectl cordon` is heard. What other pods ask for on the node can
not be read with the rights that we have, or want: a pod of ours for which they leave no place is not scheduled, and the
node's core learns it from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import structlog

from cluster_agent.runtimes.base import Room
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import ApiError
from cluster_agent.runtimes.kubernetes.api.objects.kinds import NODES
from cluster_agent.runtimes.kubernetes.api.objects.node import Node, Taint
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.quota import amounts
from cluster_agent.runtimes.kubernetes.api.watch import core as watch
from cluster_agent.runtimes.kubernetes.api.watch.driver import Watcher

_NOTHING: Final = Fraction(0)
_TROUBLED: Final = 3  # failures in a row, after which it is logged
_log = structlog.get_logger(__name__)
Tolerations = Sequence[Mapping[str, Any]]


class NodeRoom:
    """The room of one node. `told` is what the operator has said, 0 = as much as there is; `own` is our own pod.

    `part`: of their steps' processors workers' pods ask for so much, so there is room for more of them.
    """

    def __init__(
        self, client: Client, node: str, told: Room, own: Pod | None, tolerations: Tolerations, part: float = 1.0
    ) -> None:
        self.room = told
        self._client = client
        self._node = node
        self._told = told
        self._beside = asked(own) if own is not None else {}
        self._tolerations = tolerations
        self._part = part

    async def read(self) -> None:
        """Find out what there is. StartError if that is needed and can't be had."""
        try:
            self.room = self._room(await self._client.get(NODES, self._node))
        except ApiError as error:
            if not (self._told.cpus and self._told.memory):
                raise StartError(
                    f"what node {self._node} has for workers can't be read: {error}; "
                    "give our service account the right to read nodes, or say both --cpus and --memory"
                ) from None
            _log.warning("the node can't be read, so that it is cordoned will not be heard", error=str(error))

    async def follow(self, changed: Callable[[Room], None]) -> None:
        """Tell of each change until cancelled."""
        watcher = Watcher(self._client, NODES, fields=f"metadata.name={self._node}")

        def deliver(news: watch.News[Node]) -> None:
            match news:
                case watch.Added() | watch.Modified():
                    room = self._room(news.object)
                case watch.Deleted():
                    room = self.room._replace(cordoned=True)
                case watch.Troubled() if news.failures == _TROUBLED:
                    _log.warning("the node can't be watched", reason=news.words)
                    return
                case _:
                    return
            if room != self.room:
                self.room = room
                changed(room)

        await watcher.run(deliver)

    def _room(self, node: Node) -> Room:
        return room_of(node, self._told, self._beside, self._tolerations, self._part)


def room_of(
    node: Node, told: Room, beside: Mapping[str, Fraction], tolerations: Tolerations, part: float = 1.0
) -> Room:
    """What a node has for workers, see NodeRoom: as told, else all but what is asked for `beside` them."""
    there = amounts(node.status.allocatable)
    cpus = float(there.get("cpu", _NOTHING) - beside.get("cpu", _NOTHING)) / part
    memory = int(there.get("memory", _NOTHING) - beside.get("memory", _NOTHING))
    closed = node.spec.unschedulable or any(_forbids(taint, tolerations) for taint in node.spec.taints)
    return Room(told.cpus or max(cpus, 0.0), told.memory or max(memory, 1), closed)


def asked(pod: Pod) -> dict[str, Fraction]:
    """What the scheduler counts for a pod: its containers together, or what one of those before them asks for."""
    total: dict[str, Fraction] = {}
    for container in pod.spec.containers:
        for name, amount in amounts(container.resources.requests).items():
            total[name] = total.get(name, _NOTHING) + amount
    for container in pod.spec.init_containers:
        for name, amount in amounts(container.resources.requests).items():
            total[name] = max(total.get(name, _NOTHING), amount)
    return total


def _forbids(taint: Taint, tolerations: Tolerations) -> bool:
    return taint.effect in ("NoSchedule", "NoExecute") and not any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    if toleration.get("operator") == "Exists":
        return key in ("", taint.key)
    return key == taint.key and (toleration.get("value") or "") == taint.value
