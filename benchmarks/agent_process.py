"""What a task costs in the agent's process: core, driver, log, events and the stream to a node, as in a fan-out.

Run it as `python -m benchmarks.agent_process [UNITS [DURABILITY [RUNS [profile]]]]`. The node is another process,
which has each result at once and tells them together, as often as it is given something; so what is measured is the
processor time of this process, and not what the machine does besides.
"""

from __future__ import annotations

import asyncio
import cProfile
import multiprocessing
import pstats
import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import grpc.aio

from bdw_fed.v1 import model_pb2, node_pb2
from bdw_fed.v1.node_pb2_grpc import NodeServiceStub, add_NodeServiceServicer_to_server
from benchmarks.coordinator_core import fragment, made
from cluster_agent.bundles import BundleCache
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.driver import Driver
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import FragmentAssigned, RunKey
from cluster_agent.events import EventBus
from cluster_agent.link.hub import HubLink, LinkConfig
from cluster_agent.log import CoordinatorLog
from cluster_agent.membership.revoked import Revoked
from cluster_agent.nodes.door import NodeDoor
from cluster_agent.orders import messages as orders
from cluster_agent.peer.peers import Peers
from wire.digests import source_task_id
from wire.identity import (
    Credentials,
    Identity,
    Role,
    channel_options,
    grpc_channel_credentials,
    grpc_server_credentials,
    server_options,
)
from wire.identity.authority import Authority

_TOGETHER = 64  # results that the node tells together, at most


async def _node(address: str, credentials: Credentials, units: int) -> None:
    """A node that is done with everything at once."""
    options = channel_options(Identity(Role.AGENT, "a"))
    async with grpc.aio.secure_channel(address, grpc_channel_credentials(credentials), options=options) as channel:
        call = NodeServiceStub(channel).Attach()
        hello = node_pb2.NodeHello(cluster="a", node="n", incarnation=b"1", orders_version=orders.VERSION)
        hello.status.cpus = 2
        await call.write(node_pb2.AttachRequest(messages=[node_pb2.NodeMessage(hello=hello)]))
        works: dict[int, node_pb2.StartTask] = {}
        ready: deque[tuple[node_pb2.StartTask, orders.Order]] = deque()
        wake = asyncio.Event()

        async def work() -> None:
            while await wake.wait():
                wake.clear()
                while ready:
                    work, _ = ready[0]
                    batch = []
                    while ready and ready[0][0] is work and len(batch) < _TOGETHER:
                        _, order = ready.popleft()
                        count = units if work.step.endswith(".split") else 1
                        outputs = tuple(made(order.task, index) for index in range(count))
                        batch.append(orders.Result(order.task, order.attempt, outputs, seconds=0.0001))
                    results = orders.Results(work.key.namespace, work.key.run, tuple(batch))
                    await call.write(node_pb2.AttachRequest(results=orders.encode([results])))

        working = asyncio.create_task(work())
        while isinstance(response := await call.read(), node_pb2.AttachResponse):
            for command in response.commands:
                if command.HasField("open"):
                    part = command.open
                    opened = node_pb2.SourceOpened(namespace=part.namespace, run=part.run, step=part.step)
                    unit = made(source_task_id(part.namespace, part.run, part.step, 0)).unit
                    opened.units.add(port="out", unit=model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size))
                    await call.write(node_pb2.AttachRequest(messages=[node_pb2.NodeMessage(source=opened)]))
            for said in orders.decode_downward(response.orders) if response.orders else ():
                if isinstance(said, orders.Work):
                    works[said.number] = node_pb2.StartTask.FromString(said.start)
                elif isinstance(said, orders.Orders):
                    ready.extend((works[said.work], order) for order in said.orders)
                    wake.set()
        working.cancel()


def _node_process(address: str, credentials: Credentials, units: int) -> None:
    asyncio.run(_node(address, credentials, units))


async def measure(place: Path, units: int, durability: str, runs: int, profiler: cProfile.Profile | None) -> None:
    """The runs, one after the other; prints what each costs."""
    authority = Authority.create(place / "ca")
    credentials = authority.issue(Identity(Role.AGENT, "a"), place / "agent")
    core, intake = Coordinator("a"), Intake()
    log = CoordinatorLog.open(place / "state", durability=durability)
    bus = EventBus("a", log.log_id)
    link = HubLink(LinkConfig("a", ["127.0.0.1:1"], credentials, "0"), core, log, intake, bus)
    revoked = Revoked(credentials, intake, None)
    bundles = BundleCache(place / "bundles", link.pull_bundle)
    door = NodeDoor("a", intake, bundles, revoked, link.certify, data_root="/", durability=durability)
    peers = Peers("a", log, intake, bus, credentials, link.relay, revoked)
    driver = Driver(core, log, intake, bus, door, peers, link, link, durability=durability)
    driver.start()
    commits = 0
    commit = log.commit

    def counted(*batch: object) -> object:
        nonlocal commits
        commits += 1
        return commit(*batch)  # type: ignore[arg-type]

    log.commit = counted  # type: ignore[method-assign, assignment]
    server = grpc.aio.server(options=server_options())
    add_NodeServiceServicer_to_server(door, server)
    port = server.add_secure_port("127.0.0.1:0", grpc_server_credentials(credentials))
    await server.start()
    driving = asyncio.create_task(driver.run())
    node = multiprocessing.get_context("spawn").Process(
        target=_node_process,
        args=(f"127.0.0.1:{port}", authority.issue(Identity(Role.NODE, "a/n"), place / "node"), units),
    )
    node.start()
    while not door.statuses():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for number in range(runs):
        key = RunKey("default", f"run-{number}")
        proto = model_pb2.Fragment.FromString(fragment())
        proto.run = key.run
        commits, began, clock = 0, resource.getrusage(resource.RUSAGE_SELF), asyncio.get_running_loop().time()
        if profiler and number:
            profiler.enable()
        intake.submit(FragmentAssigned(proto.SerializeToString(), model_pb2.DESIRED_STATE_RUNNING))
        while True:
            await asyncio.sleep(0.05)
            if key in core.runs() and core.status(key).state == model_pb2.FRAGMENT_STATE_SUCCEEDED:
                break
        if profiler:
            profiler.disable()
        used = resource.getrusage(resource.RUSAGE_SELF)
        user, system = used.ru_utime - began.ru_utime, used.ru_stime - began.ru_stime
        took = asyncio.get_running_loop().time() - clock
        print(
            f"{units} units: {(user + system) / units * 1e6:.1f} us a task ({system / units * 1e6:.1f} in the kernel), "
            f"{commits} commits, {took / units * 1e6:.0f} us on the clock",
            flush=True,
        )
    node.terminate()
    node.join()
    driver.stop()
    await driving
    await server.stop(None)
    log.close()


def main(words: list[str]) -> None:
    """See the module."""
    profiler = cProfile.Profile(time.thread_time) if words[3:] == ["profile"] else None
    units, durability, runs = words[:3] + ["10000", "process", "3"][len(words) :]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        asyncio.run(measure(Path(place), int(units), durability, int(runs), profiler))
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main(sys.argv[1:])
