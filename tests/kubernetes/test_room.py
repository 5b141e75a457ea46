"""What a node has is read from its Node, and followed; where it has less than that, tasks go elsewhere."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from cluster_agent.runtimes.base import Room
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.objects.node import Node, NodeSpec, NodeStatus, Taint
from cluster_agent.runtimes.kubernetes.api.objects.pod import Container, Pod, PodSpec, Resources
from cluster_agent.runtimes.kubernetes.room import NodeRoom, asked, room_of
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.fake.server import FakeServer

ALL = Room(0.0, 0)
GI = 1 << 30


def container(**requests: str) -> Container:
    return Container(resources=Resources(requests=requests))


OWN = Pod(spec=PodSpec(containers=[container(cpu="250m", memory="1Gi")], init_containers=[container(cpu="10m")]))


def node(*taints: Taint, unschedulable: bool = False, cpu: str = "4", memory: str = "8Gi") -> Node:
    status = NodeStatus(allocatable={"cpu": cpu, "memory": memory, "pods": "110"})
    return Node(spec=NodeSpec(unschedulable=unschedulable, taints=list(taints)), status=status)


def test_workers_get_what_the_node_has_but_for_what_the_daemon_asks_for() -> None:
    assert room_of(node(), ALL, asked(OWN), ()) == Room(3.75, 7 * GI)
    assert room_of(node(cpu="7910m", memory="30Gi"), ALL, {}, ()) == Room(7.91, 30 * GI)
    assert room_of(node(), ALL, asked(OWN), (), part=0.5) == Room(7.5, 7 * GI), "pods ask for half of their processors"


def test_what_is_told_counts_each_by_itself() -> None:
    assert room_of(node(), Room(2.0, 0), asked(OWN), ()) == Room(2.0, 7 * GI)
    assert room_of(node(), Room(0.0, 3 * GI), asked(OWN), ()) == Room(3.75, 3 * GI)


def test_a_node_smaller_than_its_daemon_has_nothing_and_not_no_limit() -> None:
    assert room_of(node(cpu="100m", memory="512Mi"), ALL, asked(OWN), ()) == Room(0.0, 1)


def test_a_pod_asks_for_its_containers_or_for_more_before_them() -> None:
    spec = PodSpec(
        containers=[container(cpu="1"), container(cpu="500m")], init_containers=[container(cpu="2", memory="1Gi")]
    )
    assert asked(Pod(spec=spec)) == {"cpu": Fraction(2), "memory": Fraction(GI)}


@pytest.mark.parametrize(
    ("taint", "toleration", "cordoned"),
    [
        (Taint("dedicated", "bdw", "NoSchedule"), {"key": "dedicated", "operator": "Exists"}, False),
        (Taint("dedicated", "bdw", "NoSchedule"), {"key": "dedicated", "value": "bdw", "effect": "NoSchedule"}, False),
        (Taint("dedicated", "bdw", "NoSchedule"), {"key": "dedicated", "value": "other"}, True),
        (Taint("dedicated", "bdw", "NoExecute"), {"key": "dedicated", "value": "bdw", "effect": "NoSchedule"}, True),
        (Taint("dedicated", "bdw", "NoSchedule"), {"operator": "Exists"}, False),
        (Taint("dedicated", "bdw", "NoSchedule"), {}, True),
        (Taint("dedicated", "bdw", "PreferNoSchedule"), {}, False),
        (Taint("node.kubernetes.io/disk-pressure", "", "NoSchedule"), {}, True),
    ],
)
def test_a_taint_that_keeps_workers_away_cordons(taint: Taint, toleration: dict[str, str], cordoned: bool) -> None:
    assert room_of(node(taint), ALL, {}, (toleration,)).cordoned is cordoned


async def test_a_node_that_is_cordoned_grown_drained_or_gone_is_heard(fake: FakeServer, client: Client) -> None:
    fake.kubelet.node("n1")
    fake.kubelet.node("n2", cpu="64")
    room = NodeRoom(client, "n1", ALL, None, ())
    await room.read()
    assert room.room == Room(4.0, 8 * GI)
    heard: asyncio.Queue[Room] = asyncio.Queue()
    following = asyncio.create_task(room.follow(heard.put_nowait))
    await fake.watched()
    fake.kubelet.cordon("n2")
    fake.kubelet.cordon("n1")
    assert await heard.get() == Room(4.0, 8 * GI, cordoned=True)
    fake.kubelet.cordon("n1", False)
    assert await heard.get() == Room(4.0, 8 * GI)
    fake.kubelet.node("n1", ready=False)
    fake.kubelet.node("n1", cpu="8")
    assert await heard.get() == Room(8.0, 8 * GI)
    fake.kubelet.taint("n1", ("node.kubernetes.io/unreachable", "NoExecute"))
    assert (await heard.get()).cordoned
    fake.kubelet.taint("n1")
    assert not (await heard.get()).cordoned
    fake.kubelet.vanish("n1")
    assert await heard.get() == Room(8.0, 8 * GI, cordoned=True)
    assert heard.empty(), "what is as it was is no news"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_without_the_right_to_read_the_node_both_figures_have_to_be_told(
    fake: FakeServer, client: Client
) -> None:
    fake.faults.add(Fault(10, "GET", "nodes/n1", status=403, message="nodes is forbidden"))
    for told in (ALL, Room(2.0, 0), Room(0.0, GI)):
        with pytest.raises(StartError, match=r"node n1 .* can't be read: .*forbidden.*say both --cpus and --memory"):
            await NodeRoom(client, "n1", told, None, ()).read()
    room = NodeRoom(client, "n1", Room(2.0, GI), None, ())
    await room.read()
    assert room.room == Room(2.0, GI)
