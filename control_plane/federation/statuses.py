"""The agents as they are now, each looked at when somebody asks for it.

A plan over hundreds of clusters asks for the few that its filters leave; making a status for each took longer than the
plan. It holds for the moment in which it was made: whoever keeps it sees times go by that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bdw_fed.v1 import control_plane_pb2 as cp


class Statuses(Mapping[str, cp.ClusterStatus]):
    """`known` has all that there are, `look` makes the status of one of them."""

    def __init__(self, known: Mapping[str, cp.ClusterStatus], look: Callable[[str], cp.ClusterStatus]) -> None:
        self._known = known
        self._look = look
        self._made: dict[str, cp.ClusterStatus] = {}

    def __getitem__(self, cluster: str) -> cp.ClusterStatus:
        made = self._made.get(cluster)
        if made is None:
            if cluster not in self._known:
                raise KeyError(cluster)
            made = self._made[cluster] = self._look(cluster)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
