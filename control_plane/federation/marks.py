"""What operators want of clusters for the time being: taints beside those of the topology, and when a drain is over.

They lie apart from the topology, which says what a cluster is, is written by others and would be applied over them. All
hubs follow them in the store; planner and agents get them as they get the topology's taints.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.federation.errors import NoSuchCluster, WrongTaint
from control_plane.kinds import Kinds, writing
from control_plane.mirror import Mirror
from control_plane.patience import persistently

CORDONED = "cordoned"
DRAINING = "draining"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class Marks(Mirror[cp.ClusterMarks]):
    """The marks of all clusters. `keep` is run by the hub as long as it lives; `changed` is called when one has."""

    def __init__(self, kinds: Kinds) -> None:
        super().__init__(kinds.marks)
        self._kinds = kinds

    def taints(self, cluster: str) -> Sequence[cp.ClusterTaint]:
        """The taints that operators have put on a cluster."""
        marks = self.get(cluster)
        return marks.value.taints if marks is not None else ()

    def overdue(self) -> set[str]:
        """Clusters that should be empty by now."""
        now = time.time()
        marks = [stored.value for stored in self._stored.values()]
        return {each.cluster for each in marks if each.empty_by and each.empty_by <= now}

    async def mark(self, request: cp.MarkClusterRequest, by: str, known: Collection[str]) -> cp.ClusterMarks:
        """Change a cluster's marks. NoSuchCluster if it is not among those `known`, WrongTaint says what is wrong."""
        if request.cluster not in known:
            names = ", ".join(sorted(known)) or "none"
            raise NoSuchCluster(f"there is no cluster {request.cluster or 'without a name'}; known are: {names}")
        for taint in request.put:
            if not taint.key or taint.effect not in _EFFECTS:
                raise WrongTaint(
                    f"{taint.key}={taint.value}:{taint.effect} is not a taint: expected a key, and one of "
                    f"{', '.join(_EFFECTS)} as the effect"
                )

        async def attempt() -> cp.ClusterMarks:
            key = self._kinds.marks.key(request.cluster)
            stored = await self._kinds.marks.get(key)
            before = stored.value if stored is not None else cp.ClusterMarks(cluster=request.cluster)
            fresh = _changed(before, request, by)
            if fresh == before:
                return before
            if fresh.taints:
                await self._kinds.commit([writing(self._kinds.marks, key, stored, fresh)])
            elif stored is not None:
                await self._kinds.commit([self._kinds.marks.deleting(key, stored.revision)])
            return fresh

        return await persistently(attempt)


def _changed(before: cp.ClusterMarks, request: cp.MarkClusterRequest, by: str) -> cp.ClusterMarks:
    put = {(taint.key, taint.effect): taint for taint in request.put}
    fresh = cp.ClusterMarks(cluster=before.cluster, empty_by=before.empty_by)
    for taint in before.taints:
        taken = taint.key in request.take or f"{taint.key}:{taint.effect}" in request.take
        new = put.pop((taint.key, taint.effect), None)
        if new is not None and new.value != taint.value:
            fresh.taints.append(_signed(new, by))
        elif new is not None or not taken:
            fresh.taints.append(taint)
    fresh.taints.extend(_signed(taint, by) for taint in put.values())
    draining = any(taint.key == DRAINING for taint in fresh.taints)
    if not draining:
        fresh.empty_by = 0
    elif any(taint.key == DRAINING for taint in request.put):
        fresh.empty_by = request.empty_by
    return fresh


def _signed(taint: cp.ClusterTaint, by: str) -> cp.ClusterTaint:
    return cp.ClusterTaint(key=taint.key, value=taint.value, effect=taint.effect, by=by, since=time.time())
