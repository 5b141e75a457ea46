"""What a node says of damage in its store: to whoever reads its log, and to the coordinator, which mends.

    store (whoever read it) ─▶ here ─▶ UnitsDamaged, one for each run ─▶ coordinator: fetched again, or made again

While there is no stream nothing is lost: the next hello has all units that are here, and these are not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from bdw_fed.v1 import control_plane_pb2, node_pb2
from cluster_agent.data.base import Damage
from cluster_agent.data.scrub.messages import Progress

_log = structlog.get_logger(__name__)


def tell_damage(damage: Damage, tell: Callable[[node_pb2.NodeMessage], None]) -> None:
    """Content was found damaged, and is dropped."""
    runs: dict[tuple[str, str], node_pb2.UnitsDamaged] = {}
    for key in damage.units:
        told = runs.get(key[:2])
        if told is None:
            told = runs[key[:2]] = node_pb2.UnitsDamaged(namespace=key.namespace, run=key.run)
        told.units.append(key.unit)
    digest = damage.digest.hex()
    names = [f"{namespace}/{run}" for namespace, run in runs]
    _log.warning("content is damaged, and was dropped", digest=digest, size=damage.size, why=damage.why, runs=names)
    for told in runs.values():
        told.digest, told.size, told.why = damage.digest, damage.size, damage.why
        tell(node_pb2.NodeMessage(damaged=told))


def scrub_status(progress: Progress) -> control_plane_pb2.NodeStatus.Scrub:
    """How far the scrubber is, as people are shown it."""
    ended = time.time() - progress.last if progress.last >= 0 else 0.0
    return control_plane_pb2.NodeStatus.Scrub(
        read=progress.read, seconds=progress.seconds, ended=ended, damaged=progress.damaged
    )
