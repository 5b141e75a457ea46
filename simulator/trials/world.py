"""A whole federation in one process on virtual time: store, hubs, agents, nodes, relays, and who uses it.

    Scenario ─▶ World ─ processes ─▶ the production cores and drivers over the played network, disks and store
                  │                         └─ commits, frames ─▶ Ledger (what must always hold)
                  └─ Striking: faults, Users: submissions, at their times

What dies is started again: processes once their fault is over, and what ended by itself after a while.
"""

from __future__ import annotations

import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from random import Random

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.book import Book, Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.log import LogError
from control_plane.runs import forms
from simulator.trials.agent import SimulatedAgent, agent_name
from simulator.trials.bounds import Bounds
from simulator.trials.bulk import Bulk
from simulator.trials.disk import Journal, LogDisk
from simulator.trials.etcd import Etcd
from simulator.trials.faults import Places
from simulator.trials.hub import SimulatedHub
from simulator.trials.ledger import Ledger, WatchedCoordinator
from simulator.trials.loop import Process, VirtualLoop
from simulator.trials.network import Network
from simulator.trials.node import Daemon, node_name
from simulator.trials.pace import Pace
from simulator.trials.promises import Promises
from simulator.trials.relays import SimulatedRelay, relay_name
from simulator.trials.scenario import Scenario
from simulator.trials.store import EtcdClient, Reach
from simulator.trials.striking import Striking
from simulator.trials.users import NAMESPACE, Users

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
        self.network.relayed = relayed_places(scenario)
        self.etcd = Etcd(loop)
        self.etcd.fill(applied(scenario.objects))
        self.reaches = {name: Reach(self.etcd) for name in scenario.hub_names}
        self.hubs: dict[str, SimulatedHub] = {}
        self.agents: dict[str, SimulatedAgent] = {}
        self.daemons: dict[str, Daemon] = {}
        self.bulks: dict[str, Bulk] = {}
        self.processes: dict[str, Process] = {}
        self.failed: list[str] = []
        self._down: dict[str, int] = {}  # faults that keep a process from being started
        self._starts: dict[str, Callable[[], None]] = {}
        self.disks: dict[str, LogDisk] = {}
        self.journals: dict[str, Journal] = {}
        self.paces: dict[str, Pace] = {}
        self.made_of: dict[bytes, tuple[bytes, ...]] = {}  # see Pace
        self._lives = 0
        self._state = Path(_blobs().name)
        self.network.watch = Promises(ledger, self.etcd, lambda cluster: self.agents[cluster].log).sent
        self._make()
        if scenario.is_bounded:
            self._bound()

    @property
    def places(self) -> Places:
        """Where faults may be."""
        return places_of(self.scenario)

    def _make(self) -> None:
        scenario = self.scenario
        records = self.random.choice((5, 20, 60, 10_000))
        for cluster, nodes in scenario.clusters.items():
            name = agent_name(cluster)
            disk = self.disks[name] = LogDisk(self.random.randbytes(16), records)
            disk.committed = lambda batch, cluster=cluster: self.ledger.committed(cluster, batch)  # type: ignore[misc]
            self._starts[name] = lambda cluster=cluster: self._start_agent(cluster)  # type: ignore[misc]
            for node, cpus in nodes.items():
                name = node_name(cluster, node)
                self.journals[name] = Journal(Random(f"{scenario.seed}/{name}/journal"))
                self.paces[name] = Pace(self._seconds, made_of=self.made_of)
                self._starts[name] = lambda cluster=cluster, node=node, cpus=cpus: self._start_node(  # type: ignore[misc]
                    cluster, node, cpus
                )
        for name in scenario.hub_names:
            self._starts[name] = lambda name=name: self._start_hub(name)  # type: ignore[misc]
        for relay in scenario.relays:
            self._starts[relay_name(relay)] = lambda relay=relay: self._start_relay(relay)  # type: ignore[misc]
        for name in self._starts:
            self._start(name)
        people = self.processes["users"] = Process(self.loop, "users")
        self.users = Users(self, people)
        Striking(self).begin()

    def _bound(self) -> None:
        """Quotas are looked after whenever something is stored."""
        journals = {
            cluster: [(node, self.journals[node_name(cluster, node)]) for node in nodes]
            for cluster, nodes in self.scenario.clusters.items()
        }
        bounds = Bounds(journals, self._book, self.ledger.violated)
        for cluster, theirs in journals.items():
            for _, journal in theirs:
                journal.entered = lambda cluster=cluster: bounds.look(cluster)  # type: ignore[misc]

    def _book(self, cluster: str) -> Book | None:
        """What a cluster's agent knows, if it is alive."""
        agent = self.agents.get(cluster)
        alive = agent is not None and self.processes[agent_name(cluster)].alive and cluster not in self.ledger.out
        return agent.core._book if agent is not None and alive else None

    def close(self) -> None:
        """Kill all that lives; the loop must then see it end."""
        for process in self.processes.values():
            process.kill()

    def clear(self) -> None:
        """Nothing lives any more: what outlived it goes too."""
        for disk in self.disks.values():
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

    def _start_hub(self, name: str) -> None:
        process = self._begin(name)
        random = Random(f"{self.scenario.seed}/{name}/{self._lives}")

        def knows(clusters: Iterable[str]) -> None:
            self.ledger.knows(name, clusters)

        self.ledger.forgets(name)
        hub = self.hubs[name] = SimulatedHub(process, self.network, self.reaches[name], self._state, random, knows)
        process.run(hub.main())

    def _start_relay(self, relay: str) -> None:
        process = self._begin(relay_name(relay))
        process.run(SimulatedRelay(process, self.network).main())

    def _start_agent(self, cluster: str) -> None:
        name = agent_name(cluster)
        process = self._begin(name)

        async def main() -> None:
            agent = self.agents[cluster] = SimulatedAgent(
                process,
                self.network,
                cluster,
                self.scenario.hub_names,
                self.disks[name],
                self._core,
                durability=self.scenario.durability,
            )
            self.ledger.knows(cluster, agent.revoked.revocations.known())
            agent.revoked.listeners.append(lambda clusters: self.ledger.knows(cluster, clusters))
            await agent.main()

        self.ledger.started(cluster)
        process.run(main())

    def _core(self, cluster: str, policy: Policy) -> Coordinator:
        return WatchedCoordinator(cluster, policy, self.ledger)

    def _start_node(self, cluster: str, node: str, cpus: float) -> None:
        name = node_name(cluster, node)
        process = self._begin(name)
        journal = self.journals[name]
        random = Random(f"{self.scenario.seed}/{name}/{self._lives}")
        bulk = self.bulks[name] = Bulk(process, self.network, name, journal, self._bulk_at, random)

        async def main() -> None:
            daemon = self.daemons[name] = Daemon(
                process, self.network, cluster, node, cpus, journal, self.paces[name], random.randbytes(16), bulk
            )
            await daemon.main()

        process.run(main())

    def kill(self, name: str, *, power: bool = False) -> None:
        """End a process as nobody expects it; with `power`, without a word to anybody."""
        if power:
            self.network.gone(name, silent=True)
        process = self.processes.get(name)
        if process is not None and process.alive:
            process.kill()
            journal = self.journals.get(name)
            if journal is not None:
                journal.crash(power=power)

    def hold_down(self, name: str, seconds: float, *, power: bool = False) -> None:
        """The same, and it is not started again before so many seconds have passed."""
        self.kill(name, power=power)
        self._down[name] = self._down.get(name, 0) + 1
        self.loop.call_later(seconds, self._release, name)

    def _release(self, name: str) -> None:
        self._down[name] -= 1
        self._start(name)

    def _bulk_at(self, address: str) -> Bulk | None:
        bulk = self.bulks.get(address)
        return bulk if bulk is not None and bulk.process.alive else None

    def _seconds(self, step: str, task: bytes) -> float:
        return self.scenario.seconds.get(step, 0.05) * (0.5 + task[0] / 255)

    # ------------------------------------------------------------------------------------------------ what is

    def within(self, unit: bytes) -> tuple[bytes, ...]:
        """The units of sources and splits that a unit was made of."""
        return self.made_of.get(unit, (unit,))

    def runs(self) -> dict[str, m.Run]:
        """The runs as they are stored."""
        prefix = f"/bdw-fed/v1/runs/{NAMESPACE}/".encode()
        found = (m.Run.FromString(value) for key, value in self.etcd.contents().items() if key.startswith(prefix))
        return {run.name: run for run in found}

    def ended(self) -> bool:
        """Whether all that was to be submitted has ended, or was refused."""
        ended = {name for name, run in self.runs().items() if run.state in forms.ENDED} | self.users.refused.keys()
        return all(submission.run in ended for submission in self.scenario.submissions)


def places_of(scenario: Scenario) -> Places:
    """Where faults may be in a scenario."""
    hubs = scenario.hub_names
    agents = [agent_name(cluster) for cluster in scenario.clusters]
    nodes = [node_name(cluster, node) for cluster, nodes in scenario.clusters.items() for node in nodes]
    relayed = relayed_places(scenario)
    pairs = [pair for pair in itertools.combinations(agents, 2) if frozenset(pair) not in relayed]
    links = [f"{agent} {hub}" for agent in agents for hub in hubs]
    links += [f"{one} {other}" for one, other in pairs]
    links += [f"{node} agent/{node.split('/')[1]}" for node in nodes]
    links += [f"{one} {other}" for one, other in itertools.combinations(hubs, 2)]
    for relay, reached in scenario.relays.items():
        links += [f"{agent_name(cluster)} {relay_name(relay)}" for cluster in sorted(frozenset().union(*reached))]
    return Places(
        hubs=hubs,
        agents=agents,
        nodes=nodes,
        relays=[relay_name(relay) for relay in scenario.relays],
        clusters=[f"cluster/{cluster}" for cluster in scenario.clusters],
        links=links,
    )


def relayed_places(scenario: Scenario) -> dict[frozenset[str], tuple[str, ...]]:
    """Pairs of agents that reach each other over relays alone, with the relays' places."""
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for relay, pairs in scenario.relays.items():
        for pair in pairs:
            agents = frozenset(agent_name(cluster) for cluster in pair)
            found[agents] = (*found.get(agents, ()), relay_name(relay))
    return found


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

    documents = loaded(NAMESPACE, [cp.Document(file="scenario", yaml=objects)])
    kinds = Kinds(Store(EtcdClient(Reach(Etcd(None)), Random(0))))  # type: ignore[arg-type]
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
