"""A whole federation in one process on virtual time: store, hub, agents, nodes, links, users, and what goes wrong.

    Scenario ─▶ World ─ processes ─▶ the production cores and drivers over the played network, disks and store
                  │                         └─ commits, frames ─▶ Ledger (what must always hold)
                  └─ faults, submissions, at their times

What dies is started again: processes once their fault is over, and what ended by itself after a while.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import traceback
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.log import LogError
from control_plane.runs import forms, messages
from control_plane.runs.errors import RunError
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from simulator.trials.agent import SimulatedAgent, agent_name
from simulator.trials.bulk import Bulk
from simulator.trials.disk import Journal, LogDisk
from simulator.trials.etcd import Etcd
from simulator.trials.faults import Fault, Places
from simulator.trials.hub import NAME, SimulatedHub
from simulator.trials.ledger import Ledger, WatchedCoordinator
from simulator.trials.loop import Process, VirtualLoop
from simulator.trials.network import Network
from simulator.trials.node import Daemon, Pace, node_name
from simulator.trials.promises import Promises
from simulator.trials.scenario import Scenario, Submission
from wire.errors import ProblemError

NAMESPACE = "default"
_RESTART_SECONDS = 0.5  # until a supervisor starts again what ended by itself


class World:
    """See the module. `seed`: of everything that is drawn but the faults."""

    def __init__(self, loop: VirtualLoop, scenario: Scenario, ledger: Ledger) -> None:
        self.loop = loop
        self.scenario = scenario
        self.ledger = ledger
        seed = scenario.seed
        self.random = Random(f"{seed}/world")
        self.network = Network(loop, seed)
        self.etcd = Etcd(loop)
        self.etcd.fill(applied(scenario.objects))
        self.hub: SimulatedHub | None = None
        self.agents: dict[str, SimulatedAgent] = {}
        self.daemons: dict[str, Daemon] = {}
        self.bulks: dict[str, Bulk] = {}
        self.processes: dict[str, Process] = {}
        self.failed: list[str] = []
        self._down: dict[str, int] = {}  # faults that keep a process from being started
        self._starts: dict[str, Callable[[], None]] = {}
        self._disks: dict[str, LogDisk] = {}
        self._journals: dict[str, Journal] = {}
        self._paces: dict[str, Pace] = {}
        self._lives = 0
        self._state = Path(_blobs().name)
        self.network.watch = Promises(ledger, self.etcd, lambda cluster: self.agents[cluster].log).sent
        self._make()

    @property
    def places(self) -> Places:
        """Where faults may be."""
        return places_of(self.scenario)

    def _make(self) -> None:
        scenario = self.scenario
        records = self.random.choice((5, 20, 60, 10_000))
        for cluster, nodes in scenario.clusters.items():
            name = agent_name(cluster)
            disk = self._disks[name] = LogDisk(self.random.randbytes(16), records)
            disk.committed = lambda batch, cluster=cluster: self.ledger.committed(cluster, batch)  # type: ignore[misc]
            self._starts[name] = lambda cluster=cluster: self._start_agent(cluster)  # type: ignore[misc]
            for node, cpus in nodes.items():
                name = node_name(cluster, node)
                self._journals[name] = Journal(Random(f"{scenario.seed}/{name}/journal"))
                self._paces[name] = Pace(self._seconds)
                self._starts[name] = lambda cluster=cluster, node=node, cpus=cpus: self._start_node(  # type: ignore[misc]
                    cluster, node, cpus
                )
        self._starts[NAME] = self._start_hub
        for name in self._starts:
            self._start(name)
        for fault in scenario.faults:
            self.loop.call_at(fault.at, self._strike, fault)
        users = self.processes["users"] = Process(self.loop, "users")
        for submission in scenario.submissions:
            users.run_part(self._user(submission))

    def close(self) -> None:
        """Kill all that lives; the loop must then see it end."""
        for process in self.processes.values():
            process.kill()

    def clear(self) -> None:
        """Nothing lives any more: what outlived it goes too."""
        for disk in self._disks.values():
            disk.close()

    # ------------------------------------------------------------------------------------------------ processes

    def _begin(self, name: str) -> Process:
        process = self.processes[name] = Process(self.loop, name)
        process.at_kill.append(lambda: self.network.gone(name, silent=False))
        process.ended = lambda error: self._ended(name, error)
        self._lives += 1
        return process

    def _ended(self, name: str, error: BaseException | None) -> None:
        """A process has ended by itself: that is in order only where its log can't be written."""
        if not _is_log_error(error):
            inner = _innermost(error)
            self.failed.append(f"{name} ended with {inner!r} {_where(inner)}")
        self.loop.call_later(_RESTART_SECONDS, self._start, name)

    def _start(self, name: str) -> None:
        process = self.processes.get(name)
        if not self._down.get(name) and (process is None or not process.alive):
            self._starts[name]()

    def _start_hub(self) -> None:
        process = self._begin(NAME)
        random = Random(f"{self.scenario.seed}/hub/{self._lives}")
        self.hub = SimulatedHub(process, self.network, self.etcd, self._state, random)
        process.run(self.hub.main())

    def _start_agent(self, cluster: str) -> None:
        name = agent_name(cluster)
        process = self._begin(name)

        async def main() -> None:
            agent = self.agents[cluster] = SimulatedAgent(
                process, self.network, cluster, self._disks[name], self._core, durability=self.scenario.durability
            )
            await agent.main()

        self.ledger.started(cluster)
        process.run(main())

    def _core(self, cluster: str, policy: Policy) -> Coordinator:
        return WatchedCoordinator(cluster, policy, self.ledger)

    def _start_node(self, cluster: str, node: str, cpus: float) -> None:
        name = node_name(cluster, node)
        process = self._begin(name)
        journal = self._journals[name]
        random = Random(f"{self.scenario.seed}/{name}/{self._lives}")
        bulk = self.bulks[name] = Bulk(process, self.network, name, journal, self._bulk_at, random)

        async def main() -> None:
            daemon = self.daemons[name] = Daemon(
                process, self.network, cluster, node, cpus, journal, self._paces[name], random.randbytes(16), bulk
            )
            await daemon.main()

        process.run(main())

    def _bulk_at(self, address: str) -> Bulk | None:
        bulk = self.bulks.get(address)
        return bulk if bulk is not None and bulk.process.alive else None

    def _seconds(self, step: str, task: bytes) -> float:
        return self.scenario.seconds.get(step, 0.05) * (0.5 + task[0] / 255)

    # ------------------------------------------------------------------------------------------------ users

    async def _user(self, submission: Submission) -> None:
        """One person, who does one thing after the other."""
        await asyncio.sleep(submission.at)
        await self._submit(submission.run, submission.workflow)
        for action, at in submission.then:
            await asyncio.sleep(max(0.0, at - self.loop.time()))
            await self._act(action, submission.run)

    async def _persistently(self, attempt: Callable[[SimulatedHub], Coroutine[Any, Any, object]]) -> None:
        """As a client that repeats its call until the hub has answered."""
        while True:
            hub = self.hub
            if hub is not None and hub.ready and self.processes[NAME].alive:
                answered = asyncio.Event()
                calling = asyncio.ensure_future(self._call(attempt(hub), answered))
                self.processes[NAME].owns(calling)
                with_answer = asyncio.ensure_future(answered.wait())
                await asyncio.wait([calling, with_answer], timeout=20.0, return_when=asyncio.FIRST_COMPLETED)
                with_answer.cancel()
                calling.cancel()
                if answered.is_set():
                    return
            await asyncio.sleep(0.5)

    async def _call(self, work: Coroutine[Any, Any, object], answered: asyncio.Event) -> None:
        try:
            await work
        except (EtcdError, StoreError):
            return
        except RunError:
            pass  # it says no, and that is an answer
        answered.set()

    async def _submit(self, run: str, workflow: str) -> None:
        request = cp.SubmitRequest(namespace=NAMESPACE, workflow=workflow, run=run, idempotency_key=run)

        async def attempt(hub: SimulatedHub) -> None:
            await hub.hub._submissions.submit(request, "user")

        try:
            await self._persistently(attempt)
        except ProblemError as error:
            self.failed.append(f"{run} was refused: {error}")

    async def _act(self, action: str, run: str) -> None:
        def event() -> messages.Event:
            match action:
                case "cancel":
                    return messages.CancelRequested("cancelled by the user", time.time())
                case "suspend":
                    return messages.SuspendRequested()
                case "resume":
                    return messages.ResumeRequested()
            raise AssertionError(action)

        await self._persistently(lambda hub: hub.hub._runs.happened(NAMESPACE, run, event()))

    # ------------------------------------------------------------------------------------------------ faults

    def _strike(self, fault: Fault) -> None:
        later = self.loop.call_later
        match fault.kind:
            case "crash-hub" | "crash-node":
                self._hold_down(fault.on, fault.seconds)
            case "crash-agent" if fault.how == "now":
                self._hold_down(fault.on, fault.seconds)
            case "crash-agent":
                self._crash_at_commit(fault)
            case "power":
                self._power_off(fault)
            case "cut":
                here, there = fault.on.split()
                for one, other in ((here, there), (there, here)):
                    self.network.block(one, other, fault.seconds)
                self.network.reset(here, there)
            case "partition":
                here, there = fault.on.split()
                if fault.how in ("both", "to"):
                    self.network.block(here, there, fault.seconds)
                if fault.how in ("both", "from"):
                    self.network.block(there, here, fault.seconds)
            case "lossy":
                self._set_links(fault, fault.amount, fault.amount, fault.amount)
                later(fault.seconds, self._set_links, fault, 0.0, 0.0, 0.0)
            case "slow-link":
                for link in self._both(fault.on):
                    link.slow = fault.amount
                    later(fault.seconds, setattr, link, "slow", 1.0)
            case "store-away":
                self.etcd.go_away(fault.seconds)
            case "answers-lost":
                self.etcd.lost = fault.amount
                later(fault.seconds, setattr, self.etcd, "lost", 0.0)
            case "disk-full":
                disk = self._disks.get(fault.on) or self._journals[fault.on]
                disk.full = True
                later(fault.seconds, setattr, disk, "full", False)
            case "clock-jump":
                process = self.processes[fault.on]
                process.skew += fault.amount
                later(fault.seconds, self._set_right, process)
            case "slow-node":
                self._paces[fault.on].slow = fault.amount
                later(fault.seconds, setattr, self._paces[fault.on], "slow", 1.0)
            case "workers-die":
                pace = self._paces[fault.on]
                pace.dies = lambda task, attempt: (task[1] + 37 * attempt) % 100 < fault.amount * 100
                later(fault.seconds, setattr, pace, "dies", lambda _task, _attempt: False)
            case "disk-lost":
                self._kill(fault.on)
                self._journals[fault.on].lose()
                self._hold_down(fault.on, fault.seconds)

    def _set_right(self, process: Process) -> None:
        process.skew = 0.0

    def _both(self, on: str) -> list[Any]:
        here, there = on.split()
        return [self.network.link(here, there), self.network.link(there, here)]

    def _set_links(self, fault: Fault, loss: float, double: float, overtake: float) -> None:
        for link in self._both(fault.on):
            link.loss, link.double, link.overtake = loss / 5, double, overtake

    def _kill(self, name: str, *, power: bool = False) -> None:
        if power:
            self.network.gone(name, silent=True)
        process = self.processes.get(name)
        if process is not None and process.alive:
            process.kill()
            journal = self._journals.get(name)
            if journal is not None:
                journal.crash(power=power)

    def _hold_down(self, name: str, seconds: float, *, power: bool = False) -> None:
        self._kill(name, power=power)
        self._down[name] = self._down.get(name, 0) + 1
        self.loop.call_later(seconds, self._release, name)

    def _release(self, name: str) -> None:
        self._down[name] -= 1
        self._start(name)

    def _crash_at_commit(self, fault: Fault) -> None:
        """Its next commit, if there is one meanwhile, is the last thing that it does; or the first that it does not."""
        disk = self._disks[fault.on]
        disk.kill_at_commit = fault.how.partition("-")[0]
        disk.kill = lambda: self._hold_down(fault.on, fault.seconds)
        self.loop.call_later(fault.seconds, setattr, disk, "kill_at_commit", "")

    def _power_off(self, fault: Fault) -> None:
        cluster = fault.on.partition("/")[2]
        for name in (fault.on, *(node_name(cluster, node) for node in self.scenario.clusters[cluster])):
            self._hold_down(name, fault.seconds, power=True)

    # ------------------------------------------------------------------------------------------------ what is

    def runs(self) -> dict[str, m.Run]:
        """The runs as they are stored."""
        prefix = f"/bdw-fed/v1/runs/{NAMESPACE}/".encode()
        found = (m.Run.FromString(value) for key, value in self.etcd.contents().items() if key.startswith(prefix))
        return {run.name: run for run in found}

    def ended(self) -> bool:
        """Whether all that was to be submitted has ended."""
        runs = self.runs()
        return all(
            submission.run in runs and runs[submission.run].state in forms.ENDED
            for submission in self.scenario.submissions
        )


def places_of(scenario: Scenario) -> Places:
    """Where faults may be in a scenario."""
    agents = [agent_name(cluster) for cluster in scenario.clusters]
    nodes = [node_name(cluster, node) for cluster, nodes in scenario.clusters.items() for node in nodes]
    links = [f"{agent} {NAME}" for agent in agents]
    links += [f"{one} {other}" for at, one in enumerate(agents) for other in agents[at + 1 :]]
    links += [f"{node} agent/{node.split('/')[1]}" for node in nodes]
    return Places(agents, nodes, links)


@lru_cache(maxsize=1)
def _blobs() -> tempfile.TemporaryDirectory[str]:
    """A directory for the hubs' blobs, of which no trial has any; it goes with this process."""
    return tempfile.TemporaryDirectory(prefix="bdw-fed-simulated-")


@lru_cache(maxsize=256)
def applied(objects: str) -> dict[bytes, bytes]:
    """What the store holds once these documents are applied. ProblemError if they are wrong."""
    from control_plane.api.applying import judged, loaded
    from control_plane.kinds import Kinds, object_names, revision_name
    from control_plane.store.repository import Store
    from simulator.trials.etcd import EtcdClient

    documents = loaded(NAMESPACE, [cp.Document(file="scenario", yaml=objects)])
    kinds = Kinds(Store(EtcdClient(Etcd(None), Random(0))))  # type: ignore[arg-type]
    contents: dict[bytes, bytes] = {}
    for each in judged(documents, {}, set(), []):
        made = each.object
        names = object_names(made.kind, made.name)
        contents[kinds.objects[made.kind].key(NAMESPACE, *names).raw] = made.SerializeToString()
        key = kinds.revisions[made.kind].key(NAMESPACE, *names, revision_name(1))
        contents[key.raw] = made.SerializeToString()
    return contents


def _innermost(error: BaseException | None) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _where(error: BaseException | None) -> str:
    """The innermost lines of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:] if error is not None else []
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _is_log_error(error: BaseException | None) -> bool:
    return isinstance(_innermost(error), LogError)
