"""What a node says of damage in its store: to whoever reads its log, and to the coordinator, which mends.

    store (whoever read it) ─▶ Damages ─▶ UnitsDamaged, one for each run ─▶ coordinator: fetched again, or made again

While there is no stream nothing is lost: the next hello has all units that are here, and these are not among them. But
a result that the coordinator has not heard yet says that its outputs are here. So where one of these is not, that is
said once more as soon as the result is acknowledged; also if the task was called back while its result was on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import structlog

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.base import Damage, UnitKey
from cluster_agent.data.scrub.messages import Progress
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.outbox import Outbox

_log = structlog.get_logger(__name__)


class Damages:
    """What has to be said of damage. `holds`: whether the store has a unit."""

    def __init__(
        self, tell: Callable[[node_pb2.NodeMessage], None], outbox: Outbox, holds: Callable[[UnitKey], bool]
    ) -> None:
        self._tell = tell
        self._outbox = outbox
        self._holds = holds
        self._untold: dict[TaskKey, list[bytes]] = {}  # result -> those of its outputs that are not here

    def begin(self) -> None:
        """A new stream: it begins with all results that are not acknowledged."""
        self._untold = self._of_results()

    def found(self, damage: Damage) -> None:
        """Content was found damaged, and is dropped."""
        runs: dict[tuple[str, str], list[bytes]] = {}
        for key in damage.units:
            runs.setdefault(key[:2], []).append(key.unit)
        names = [f"{namespace}/{run}" for namespace, run in runs]
        digest = damage.digest.hex()
        _log.warning("content is damaged, and was dropped", digest=digest, size=damage.size, why=damage.why, runs=names)
        for (namespace, run), units in runs.items():
            self._say(node_pb2.UnitsDamaged(namespace=namespace, run=run, units=units), damage)
        self._untold |= self._of_results()

    def acked(self, namespace: str, run: str, tasks: Iterable[tuple[bytes, int]]) -> None:
        """The coordinator has these results."""
        if not self._untold:
            return
        for task, attempt in tasks:
            key = TaskKey(namespace, run, task, attempt)
            if units := self._missing(key, self._untold.pop(key, ())):
                told = node_pb2.UnitsDamaged(namespace=namespace, run=run, units=units)
                self._say(told, Damage((), b"", 0, "it was found damaged before its task's result was heard"))

    def _of_results(self) -> dict[TaskKey, list[bytes]]:
        """The outputs that are not here, of all results that are not acknowledged."""
        found = {}
        results = self._outbox.keys()
        for key in results:
            if units := self._missing(key, [output.unit.id for output in self._outbox.outputs(key)]):
                found[key] = units
        return found

    def _missing(self, key: TaskKey, units: Iterable[bytes]) -> list[bytes]:
        return [unit for unit in units if not self._holds(UnitKey(key.namespace, key.run, unit))]

    def _say(self, told: node_pb2.UnitsDamaged, damage: Damage) -> None:
        told.digest, told.size, told.why, told.shared = damage.digest, damage.size, damage.why, damage.shared
        self._tell(node_pb2.NodeMessage(damaged=told))


def scrub_status(progress: Progress) -> control_plane_pb2.NodeStatus.Scrub:
    """How far the scrubber is, as people are shown it."""
    ended = time.time() - progress.last if progress.last >= 0 else 0.0
    return control_plane_pb2.NodeStatus.Scrub(
        read=progress.read, seconds=progress.seconds, ended=ended, damaged=progress.damaged
    )
