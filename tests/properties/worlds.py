"""Federations in memory that are audited as they run, and that can be made to crash at one chosen moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

import msgspec

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator import messages, records
from cluster_agent.coordinator.actions import Action
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.orders.messages import Output
from simulator.audit import audit
from tests.coordinator.federation import Agent, Faults, Federation, made
from tests.coordinator.workflows import Use
from tests.fixtures import words
from tests.properties.graphs import Parts, random_dag

CLUSTERS = {"edge1": {"n1": 2.0}, "edge2": {"n1": 1.0, "n2": 2.0}, "cloud": {"n1": 4.0, "n2": 2.0}}
_CRASH = 0.5  # any probability that is not zero: the moment is chosen, not left to chance


class RecordedCoordinator(Coordinator):
    """A coordinator that keeps what it began with, and all that went into it and came out of it."""

    def __init__(self, cluster: str, policy: Policy) -> None:
        super().__init__(cluster, policy)
        self.began = self.snapshot()
        self.history: list[tuple[tuple[messages.Event, ...] | None, float, bytes]] = []  # None = resume

    def handle_all(self, events: Iterable[messages.Event], now: float) -> list[Action]:
        given = tuple(events)
        actions = super().handle_all(given, now)
        self.history.append((given, now, msgspec.msgpack.encode(actions)))
        return actions

    def resume(self, now: float) -> list[Action]:
        self.began = self.snapshot()
        actions = super().resume(now)
        self.history = [(None, now, msgspec.msgpack.encode(actions))]
        return actions


class AuditedAgent(Agent):
    """An agent whose books are added up, and whose log is replayed, every so often.

    A replay goes on where the one before it was, as long as the log does; after a crash it begins at the snapshot.
    """

    def __init__(self, federation: Federation, cluster: str, nodes: dict[str, float]) -> None:
        super().__init__(federation, cluster, nodes)
        self.core = RecordedCoordinator(cluster, federation.policy)
        self.replay: Coordinator | None = None
        self.replayed = 0

    def rebuilt(self, *, check: bool) -> Coordinator:
        core = RecordedCoordinator(self.cluster, self.federation.policy)
        core.restore(self.snapshot)
        for record in self.log:
            core.apply(records.decode(record))
        if check:
            assert core.snapshot() == self.core.snapshot(), "a replay gives another state"
        return core

    def check_replay(self) -> None:
        federation = self.federation
        assert isinstance(federation, World)
        if federation.audits.random() < federation.audited:
            audit(self.core)
            if self.replay is None:
                self.replay, self.replayed = Coordinator(self.cluster, federation.policy), 0
                self.replay.restore(self.snapshot)
            for record in self.log[self.replayed :]:
                self.replay.apply(records.decode(record))
            self.replayed = len(self.log)
            assert self.replay.snapshot() == self.core.snapshot(), "a replay gives another state"

    def crash(self) -> None:
        self.replay = None
        super().crash()


class World(Federation):
    """A federation of audited agents, which crashes at the moments in `crashes`: numbers of chances that it had.

    Each batch of each agent has two: before its commit, and after it before anything is told to nodes.
    """

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        crashes: frozenset[int] = frozenset(),
        audited: float = 0.1,
        policy: Policy | None = None,
        clusters: Mapping[str, dict[str, float]] = CLUSTERS,
        grow: Callable[[Random, Sequence[str]], tuple[list[Use], Parts]] = random_dag,
    ) -> None:
        random = Random(seed)
        names = random.sample(list(clusters), random.randint(1, len(clusters)))
        self.audited = audited
        self.varying = 0.5  # how often a step answers otherwise than before
        self.rumours = 0.05  # how often a cluster hears that another is idle, or busy, whatever is true
        self.told = 0
        self.audits = Random(seed)  # of its own, so that auditing more changes nothing of what happens
        self.crashes = crashes
        self.chances = 0
        faults = faults or Faults()
        if crashes:
            faults.crash = _CRASH
        super().__init__(random, {name: clusters[name] for name in names}, faults, policy or Policy())
        self.replay_checks = 0.0
        self.agents = {cluster: AuditedAgent(self, cluster, nodes) for cluster, nodes in self.clusters.items()}
        steps, parts = grow(random, names)
        for step in steps:
            step.attempts = 20 if self.faults.attempt_fails else 3
        if random.random() < 0.5:
            pairs = [(a, b) for a in names for b in names if a != b]
            self.undialled = set(random.sample(pairs, random.randint(0, len(pairs))))
        self.introduce()
        self.submit(steps, parts)

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        """A step may answer otherwise each time that it is asked; a split never does."""
        outputs = super().outputs_of(task)
        if task.start.execution.WhichOneof("kind") == "split" or not self.chance(self.varying):
            return outputs
        varied = self.random.randbytes(4)
        return tuple(made(task.key.task, output.port, output.index, self.size, varied) for output in outputs)

    def misbehave(self) -> None:
        super().misbehave()
        if len(self.agents) > 1 and self.chance(self.rumours):
            here, there = self.random.sample(list(self.agents), 2)
            self.told += 1
            load = peer_pb2.Load(number=self.told, cpus=4, cpus_wanted=self.random.choice((0, 0, 50)), mean_seconds=0.1)
            self.agents[here].hub.append(messages.PeerLoad(there, b"", load.SerializeToString()))

    def misfortune(self, probability: float) -> bool:
        if not self.crashes or probability != _CRASH:
            return super().misfortune(probability)
        self.chances += 1
        if self.chances in self.crashes:
            self.misfortunes += 1
            return True
        return False

    def check_succeeded(self) -> None:
        super().check_succeeded()
        for agent in self.agents.values():
            for node in agent.nodes.values():
                assert not (node.running or node.unacked), f"{node.name} still has work, or results, on its hands"
        self.check_freed()

    def finish(self) -> None:
        """The run is finished, later forgotten, and nothing remains."""
        self.want(model_pb2.DESIRED_STATE_FINISHED)
        self.run()
        self.check_freed()
        self.want(model_pb2.DESIRED_STATE_FORGOTTEN)
        self.run()
        for agent in self.agents.values():
            assert agent.core.inventory() == []
            assert not any(node.store or node.running for node in agent.nodes.values())
