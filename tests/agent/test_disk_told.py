"""What a node tells of its disk reaches the coordinator when it matters, and not with every unit."""

from __future__ import annotations

import pytest

from bdw_fed.v1.control_plane_pb2 import NodeStatus
from cluster_agent.coordinator.messages import DiskTold
from cluster_agent.nodes.translate import disk_told

MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("before", "now", "news"),
    [(100, 99, False), (100, 93, True), (100, 107, True), (1, 0, True), (0, 1, True), (0, 0, False), (10, 10.5, False)],
)
def test_a_difference_of_a_sixteenth_is_news(before: float, now: float, news: bool) -> None:
    told = DiskTold("n1", int(before * MEGABYTE), 1_000 * MEGABYTE)
    status = NodeStatus(name="n1", disk_free=int(now * MEGABYTE), disk_size=1_000 * MEGABYTE)
    expected = DiskTold("n1", int(now * MEGABYTE), 1_000 * MEGABYTE) if news else None
    assert disk_told("n1", told, status) == expected
