"""What a hub makes of many agents: its processor time and memory, how long until a run is handed out, etcd's writes.

    etcd and hub, as `up` starts them ◀─ fake agents, in this process
                                      ◀─ submissions at a steady rate, each timed until the agent has its part

Agents and submissions share this process and its processor with each other, not with the hub; what they take is told
apart. The hub's figures are the kernel's, of its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bdw_fed.client import Client, Document
from bdw_fed.embedded import control
from bdw_fed.embedded.certificates import ETCD_CLIENT, authority_in
from bdw_fed.embedded.layout import Layout
from bdw_fed.embedded.ports import LOOPBACK
from bdw_fed.embedded.topologies import Chosen
from bdw_fed.load.agent import FakeAgent, Work
from bdw_fed.load.objects import clusters, documents, topology_of, workflows
from control_plane.store.etcd.client import Client as Etcd
from control_plane.store.etcd.client import Config, Tls
from control_plane.store.etcd.kv import Kv
from wire.identity import Credentials, Identity, Role

_AT_ONCE = 50  # agents that connect
_WARM_UP = 10  # runs before anything is measured
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Load:
    """What is asked for: so many agents, so many runs at so many a second, and what each run stands for."""

    agents: int = 1000
    runs: int = 200
    rate: float = 5.0
    quiet: float = 10.0  # seconds in which nothing but heartbeats is done
    heartbeat: float = 2.0
    work: Work = field(default_factory=Work)


@dataclass(frozen=True)
class Figures:
    """What was measured. Processor figures are parts of one processor; seconds, bytes."""

    agents: int
    runs: int
    rate: float  # as it was in truth
    connect_seconds: float
    quiet_hub: float  # processor of the hub with nothing but heartbeats
    quiet_writes: float  # in etcd, a second
    busy_hub: float  # under the submissions
    busy_generator: float
    hub_memory: int  # the most
    dispatch_p50: float
    dispatch_p99: float
    writes_per_run: float

    def to_values(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Hub:
    """A hub that was started, and how to look at it."""

    layout: Layout
    pid: int
    kv: Kv


async def measure(load: Load, place: Path) -> Figures:
    """Start a hub in `place`, load it, and end it. StartError, ClientError, or TimeoutError if runs don't end."""
    names = clusters(load.agents)
    handed: dict[str, float] = {}
    async with _hub(place, load.heartbeat) as hub, Client(state=place) as client:
        for document in documents(names, load.work.tasks):
            await client.apply([Document(document)])
        agents = _agents(load, hub, names, place, handed)
        async with _running(agents) as connect_seconds:
            for run in await _submit(replace(load, runs=_WARM_UP), client, names):
                await client.wait(run)
            quiet, quiet_writes = await _quiet(load, hub)
            before, generator, revision, begun = *_used(hub.pid), await hub.kv.revision(), time.monotonic()
            submitted = await _submit(load, client, names)
            rate = load.runs / (time.monotonic() - begun)
            async with asyncio.timeout(load.runs / load.rate + 20 * load.work.duration + 60):
                for run in submitted:
                    await client.wait(run)
            seconds = time.monotonic() - begun
            after, generator_after = _used(hub.pid)
            writes = await hub.kv.revision() - revision - quiet_writes * seconds
            memory = _memory(hub.pid)
    latencies = sorted(handed[run] - at for run, at in submitted.items())
    return Figures(
        agents=load.agents,
        runs=load.runs,
        rate=rate,
        connect_seconds=connect_seconds,
        quiet_hub=quiet,
        quiet_writes=quiet_writes,
        busy_hub=(after - before) / seconds,
        busy_generator=(generator_after - generator) / seconds,
        hub_memory=memory,
        dispatch_p50=_percentile(latencies, 0.5),
        dispatch_p99=_percentile(latencies, 0.99),
        writes_per_run=writes / load.runs,
    )


# ------------------------------------------------------------------------------------------------- its parts


@asynccontextmanager
async def _hub(place: Path, heartbeat: float) -> AsyncIterator[_Hub]:
    """etcd and a hub, without any agent."""
    nothing = Chosen(name="", file="", text="", digest="", data_root=place, clusters=(), nodes=())
    started = await asyncio.to_thread(control.start, place, lambda: nothing, heartbeat=heartbeat, stay=True)
    assert started.supervisor is not None
    try:
        running = control.look(place)
        assert running is not None
        pid = next(each["pid"] for each in running.processes if each["role"] == "hub")
        etcd = started.layout.one("etcd")
        shown = Credentials.load(place / "credentials" / ETCD_CLIENT)
        tls = Tls(ca=shown.ca, certificate=shown.certificate, key=shown.key)
        async with Etcd(Config((f"{LOOPBACK}:{etcd.ports['clients']}",), tls)) as client:
            yield _Hub(started.layout, pid, Kv(client))
    finally:
        started.supervisor.terminate()
        await asyncio.to_thread(started.supervisor.wait)


def _agents(load: Load, hub: _Hub, names: Sequence[str], place: Path, handed: dict[str, float]) -> list[FakeAgent]:
    """All agents, each with a certificate of its own."""
    authority = authority_in(place / "ca")
    address = f"{LOOPBACK}:{hub.layout.one('hub').ports['api']}"

    def assigned(run: str, at: float) -> None:
        handed.setdefault(run, at)

    return [
        FakeAgent(
            name, address, authority.issue(Identity(Role.AGENT, name), place / "fake" / name), load.work, assigned
        )
        for name in names
    ]


@asynccontextmanager
async def _running(agents: Sequence[FakeAgent]) -> AsyncIterator[float]:
    """All agents, connected; gives how long that took."""
    begun = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    try:
        for start in range(0, len(agents), _AT_ONCE):
            group = agents[start : start + _AT_ONCE]
            tasks += [asyncio.create_task(agent.run()) for agent in group]
            await asyncio.gather(*(agent.connected.wait() for agent in group))
        yield time.monotonic() - begun
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _quiet(load: Load, hub: _Hub) -> tuple[float, float]:
    """The hub's processor and etcd's writes a second with nothing but heartbeats, once all is settled."""
    while True:
        (before, _), revision = _used(hub.pid), await hub.kv.revision()
        await asyncio.sleep(load.quiet)
        (after, _), newest = _used(hub.pid), await hub.kv.revision()
        if newest - revision <= load.quiet:  # what was to be said of the agents has been said
            return (after - before) / load.quiet, (newest - revision) / load.quiet


async def _submit(load: Load, client: Client, names: Sequence[str]) -> dict[str, float]:
    """Submit at a steady rate; when each run was asked for, by its name. A slow answer holds up no other."""
    begun = time.monotonic()
    chosen = workflows(names)

    async def one(number: int) -> tuple[str, float]:
        await asyncio.sleep(max(0.0, begun + number / load.rate - time.monotonic()))
        workflow, at = chosen[number % len(chosen)], time.monotonic()
        submitted = await client.submit(workflow, topology=topology_of(names, workflow))
        return submitted.run.name, at

    return dict(await asyncio.gather(*(one(number) for number in range(load.runs))))


def _used(pid: int) -> tuple[float, float]:
    """Processor seconds so far: of that process, and of this one."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS, time.process_time()


def _memory(pid: int) -> int:
    """The most that the process has had in memory."""
    with contextlib.suppress(StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _percentile(ranked: Sequence[float], part: float) -> float:
    return ranked[max(0, math.ceil(part * len(ranked)) - 1)]
