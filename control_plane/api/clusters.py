"""Clusters as people see and mark them: those that topologies declare, those that were seen, those that are members."""

from __future__ import annotations

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.api.errors import NotFound
from control_plane.api.objects import Statuses
from control_plane.federation.directories import Directories
from control_plane.federation.errors import NoSuchCluster
from control_plane.federation.marks import Marks
from control_plane.membership.members import Members
from control_plane.runs import lines
from control_plane.runs.board import Board


class Clusters:
    """The clusters of all topologies. `statuses` gives their agents as they are now."""

    def __init__(
        self, directories: Directories, statuses: Statuses, marks: Marks, members: Members, board: Board
    ) -> None:
        self._directories = directories
        self._statuses = statuses
        self._marks = marks
        self._members = members
        self._board = board

    def all(self, namespace: str) -> list[cp.ClusterStatus]:
        """Each that a topology of the namespace (empty: of any) declares, then each that was seen besides."""
        statuses = self._statuses()
        known: dict[str, tuple[str, str]] = {}
        for stored in self._directories.topologies(namespace or None):
            for name in stored.questions.clusters:
                known.setdefault(name, (stored.questions.zone(name).name, stored.questions.tier(name)))
        clusters = []
        for name in [*known, *sorted(statuses.keys() - known.keys())]:
            status = statuses.get(name) or cp.ClusterStatus(name=name, state="never-seen")
            status.zone, status.tier = known.get(name, ("", ""))
            clusters.append(status)
        return clusters

    async def mark(self, request: cp.MarkClusterRequest, by: str) -> cp.MarkClusterResponse:
        """Put taints on a cluster, or take them from it; which runs still have a part there."""
        marks = await self._marks.mark(request, by, self._declared() | self._statuses().keys())
        left = [f"{run.namespace}/{run.name}" for run in self._board.live() if lines.goes_on_at(run, marks.cluster)]
        return cp.MarkClusterResponse(marks=marks, runs=sorted(left))

    async def revoke(self, name: str, by: str) -> int:
        """Cut a cluster off, with its nodes and tokens; the first generation that counts again. NoSuchCluster."""
        await self._check_known(name)
        return await self._members.revoke(name, by)

    async def revoke_node(self, cluster: str, node: str, by: str) -> tuple[int, bool]:
        """Cut one node off, also one that nobody knows: it may be away since its agent was started. NoSuchCluster.

        Returns the first generation that counts again, and whether the node is known.
        """
        await self._check_known(cluster)
        generation = await self._members.revoke_node(cluster, node, by)
        status = self._statuses().get(cluster)
        told = status is not None and any(each.name == node for each in status.nodes)
        return generation, told or self._directories.declares(cluster, node)

    async def _check_known(self, name: str) -> None:
        if name not in self._declared() and not await self._members.is_known(name):
            raise NoSuchCluster(f"nobody knows a cluster {name!r}: bdw-fed get clusters shows those that there are")

    def with_caches(self, name: str) -> list[str]:
        """The cluster that is named; if none is, those that were ever seen and are members. NotFound."""
        known = self._statuses()
        if name and name not in known:
            raise NotFound(f"no agent of a cluster {name} was ever seen here")
        return [name] if name else sorted(each for each, status in known.items() if status.state != "revoked")

    def _declared(self) -> set[str]:
        return {name for stored in self._directories.topologies() for name in stored.questions.clusters}
