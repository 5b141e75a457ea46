"""A whole cluster whose nodes have less room than was thought: every task finds a place, and nothing storms the API.

Agent and node daemons are the real ones, the pods real starters; the scheduler counts what pods ask for, as a real one.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.agent import AgentConfig
from cluster_agent.agent import serve as serve_agent
from cluster_agent.node import admission
from cluster_agent.node.config import NodeConfig
from cluster_agent.node.service import serve as serve_node
from cluster_agent.runtimes.kubernetes import judging
from cluster_agent.runtimes.kubernetes.api.reasons import Cause
from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig
from tests.agent.federation import FakeHub, Members, served_hub, until, within
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.kubernetes.fake.machine import Machine
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.pods import IMAGES, PYTHON

FLIGHTS = source("flights", ["a"])
WORK = Use("work", ["a"], {"rows": ("inputs.flights.out", EACH)})
TOTAL = Use("total", ["a"], {"rows": ("work.out", GATHER)}, cpus=2.0)


class Cluster:
    """Cluster `a` with its agent, and daemons on its nodes; of its pods `most` ran at the same time, by node."""

    def __init__(self, directory: Path, fake: FakeServer, machine: Machine, hub: FakeHub) -> None:
        self.directory = directory
        self.fake = fake
        self.machine = machine
        self.hub = hub
        self.members = Members(directory / "certificates")
        self.nodes = ""
        self.stop = asyncio.Event()
        self.serving: list[asyncio.Task[None]] = []

    async def agent(self, hub_address: str) -> None:
        config = AgentConfig(
            cluster="a",
            state=self.directory / "a",
            hub=[hub_address],
            credentials=self.members.issue("agent", "a"),  # type: ignore[arg-type]
            listen_nodes="127.0.0.1:0",
            listen_peers="127.0.0.1:0",
            data_root=self.directory / "data",
        )
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.serving.append(asyncio.create_task(serve_agent(config, ready.set_result, self.stop)))
        self.nodes = (await within(ready))["nodes"]

    async def node(self, name: str) -> None:
        pods = KubernetesConfig("fake", str(self.fake.kubeconfig), "team", starter_image="b:1", worker_image=PYTHON)
        config = NodeConfig(
            cluster="a",
            node=name,
            state=self.directory / name,
            agent=self.nodes,
            credentials=self.members.issue("node", f"a/{name}"),  # type: ignore[arg-type]
            listen_data="127.0.0.1:0",
            cpus=0.0,
            kubernetes=pods,
        )
        ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.serving.append(asyncio.create_task(serve_node(config, ready.set_result, self.stop)))
        await within(ready)

    def submit(self, parts: int, work: str) -> None:
        """Have each part worked on by the shell, and all results gathered and sorted."""
        for index in range(parts):
            path = self.directory / "data" / FLIGHTS.name / f"{index}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{index}\n")
        body = fragments([FLIGHTS, WORK, TOTAL, output(TOTAL)], {FLIGHTS.name: {"a": parts}}, ["a"])["a"]
        fragment = m.Fragment.FromString(body)
        for step in fragment.steps:
            if step.name == "work":
                step.execution.command.argv[:] = ["sh", "-c", work]
            elif step.name == "total":
                step.execution.command.argv[:] = ["sh", "-c", 'cat "$@" | sort -n >{out.out}', "sh", "{in.rows}"]
        session = self.hub.live["a"]
        assignment = m.Assignment(fragment=fragment, desired=m.DESIRED_STATE_RUNNING)
        session.say(seq=session.hello.received + 1, assignments=f.AssignmentSet(assignments=[assignment]))

    async def ended(self) -> m.FragmentStatus:
        frame = await asyncio.wait_for(self.hub.live["a"].wait_kind("ended"), 60)
        return frame.ended

    @property
    def creations(self) -> int:
        return sum(request[:2] == ("POST", "/api/v1/namespaces/team/pods") for request in self.fake.requests)


@pytest.fixture
async def cluster(fake: FakeServer, starter: Path) -> AsyncIterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="bdw-"))  # the path of a socket has room for little
    machine = Machine(fake, starter, dict(IMAGES))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        hub = FakeHub()
        made = Cluster(directory, fake, machine, hub)
        hub_server = await stack.enter_async_context(served_hub(made.members, hub))
        await made.agent(hub_server.address)
        await until(lambda: "a" in hub.live)
        try:
            yield made
        finally:
            made.stop.set()
            await within(asyncio.gather(*made.serving))
            await machine.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler here hears of everything at once, and room is looked for again soon."""
    monkeypatch.setitem(judging._PATIENCE, Cause.UNSCHEDULABLE, 0.3)
    monkeypatch.setattr(admission, "FULL_SECONDS", 0.5)


async def test_a_fan_over_nodes_that_others_use_ends_with_every_unit_once(cluster: Cluster) -> None:
    """Both nodes have eight processors, of which pods of others take six and seven."""
    for name, room in (("n1", 2.0), ("n2", 1.0)):
        cluster.fake.kubelet.node(name, cpu="8")
        cluster.machine.cpus[name] = room
        await cluster.node(name)
    cluster.submit(40, "sleep 0.05; cat {in.rows} >{out.out}")
    status = await cluster.ended()
    assert status.state == m.FRAGMENT_STATE_SUCCEEDED, status.failures
    assert [step.done for step in status.steps if step.step == "work"] == [40]
    assert cluster.machine.most <= 3
    (made,) = status.outputs
    assert made.unit.size == sum(len(f"{index}\n") for index in range(40))
    assert cluster.creations < 32, "sixteen at first, as many as fit what was told; then one by one"


async def test_a_run_waits_for_room_where_there_is_none_and_takes_it_when_it_comes(cluster: Cluster) -> None:
    cluster.fake.kubelet.node("n1", cpu="8")
    cluster.machine.cpus["n1"] = 0.0
    await cluster.node("n1")
    cluster.submit(3, "cat {in.rows} >{out.out}")
    await until(lambda: cluster.creations >= 4)
    assert cluster.machine.started == []
    cluster.machine.cpus["n1"] = 8.0
    status = await cluster.ended()
    assert status.state == m.FRAGMENT_STATE_SUCCEEDED, status.failures


async def test_a_cordoned_nodes_tasks_go_to_another_and_come_back_when_it_is_uncordoned(cluster: Cluster) -> None:
    for name in ("n1", "n2"):
        cluster.fake.kubelet.node(name, cpu="2")
        await cluster.node(name)
    cluster.fake.kubelet.cordon("n1")
    gate = cluster.directory / "gate"
    cluster.submit(12, f"while [ ! -e {gate} ]; do sleep 0.02; done; cat {{in.rows}} >{{out.out}}")
    on = lambda name: [pod for pod in cluster.machine.pods if pod["spec"].get("nodeName") == name]  # noqa: E731
    await until(lambda: len(on("n2")) == 2)
    assert on("n1") == []
    cluster.fake.kubelet.cordon("n2")
    cluster.fake.kubelet.cordon("n1", False)
    await until(lambda: len(on("n1")) == 2)
    assert len(on("n2")) == 2, "what has begun goes on"
    gate.touch()
    status = await cluster.ended()
    assert status.state == m.FRAGMENT_STATE_SUCCEEDED, status.failures
    assert [step.failed for step in status.steps] == [0] * len(status.steps)
