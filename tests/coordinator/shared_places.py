"""A federation whose nodes reach shared places: one of each cluster, and one of all. Places lose and spoil what they
like, and are swept when a run is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from bdw_fed.v1 import node_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.orders.messages import Output
from tests.coordinator.federation import RUN, FakeNode, Federation, key_of
from tests.fixtures import words

EVERYBODYS = "s3://bucket/everybodys"


class SharingNode(FakeNode):
    """A node daemon that reaches places; what it knows to have put there survives its restarts."""

    federation: SharingFederation

    def boot(self, *, journal: bool = False) -> None:
        super().boot(journal=journal)
        self.later: list[tuple[RunKey, bytes, bytes]] = []  # told, and to be put into a place

    @property
    def places(self) -> tuple[str, ...]:
        return self.federation.reached.get((self.agent.cluster, self.name), ())

    @property
    def marked(self) -> set[RunKey]:
        return self.federation.marked.setdefault((self.agent.cluster, self.name), set())

    def connect(self) -> None:
        super().connect()
        self.said[-1] = msgspec.structs.replace(self.said[-1], places=self.places, shared=tuple(self.marked))

    def moves(self) -> list[Callable[[], None]]:
        return super().moves() + ([self.share_later] if self.later and self.places else [])

    def put(self, run: RunKey, unit: bytes, digest: bytes) -> str:
        place = self.federation.random.choice(self.places)
        self.marked.add(run)
        self.federation.places.setdefault(place, {})[self.agent.cluster, run, unit] = digest
        return place

    def share_later(self) -> None:
        run, unit, digest = self.later.pop()
        if self.store.get((run, unit)) == digest:
            self.say(messages.UnitsShared(self.name, run, self.put(run, unit, digest), (unit,)))

    def finish_one(self) -> None:
        self.federation.finishing = self
        super().finish_one()

    def fetch_one(self) -> None:
        fetch = self.fetches[0]
        if not fetch.place:
            super().fetch_one()
            return
        assert fetch.place in self.places, "a node is sent to a place that it does not reach"
        key = (key_of(fetch.key), fetch.key.unit)
        found = self.federation.places.get(fetch.place, {}).get((fetch.from_cluster, *key))
        if found == fetch.unit.digest and not self.federation.chance(self.federation.away):
            self.fetches.popleft()
            self.store[key] = found
            self.federation.taken[self.agent.cluster] += 1
            self.say(messages.FetchEnded(self.name, *key, bytes=fetch.unit.size, seconds=0.01, shared=True))
        elif fetch.addresses:
            before = len(self.said)
            super().fetch_one()
            if len(self.said) > before:  # else nobody listens
                self.said[-1] = msgspec.structs.replace(self.said[-1], unshared=True)
        else:
            self.fetches.popleft()
            gone = fetch.refer and found != fetch.unit.digest
            self.say(messages.FetchEnded(self.name, *key, error="the place has not got it", unshared=True, gone=gone))

    def obey(self, kind: str, command: Any) -> None:
        if kind == "unshare":
            self.delete(command)
        elif kind == "fetch" and command.place:
            self.fetches.append(command)
        else:
            super().obey(kind, command)

    def delete(self, command: node_pb2.UnshareUnits) -> None:
        contents, run = self.federation.places.get(command.place, {}), RunKey(command.namespace, command.run)
        error = "it does not answer" if command.answer and self.federation.chance(self.federation.away) else ""
        for name in [] if error else list(contents):
            if name[:2] == (self.agent.cluster, run) and (command.all or name[2] in command.units):
                del contents[name]
        if command.answer:
            units = tuple(command.units)
            self.say(messages.UnitsUnshared(self.name, run, command.place, units, command.all, error))

    def end_run(self, end: node_pb2.EndRun) -> None:
        super().end_run(end)
        run = RunKey(end.namespace, end.run)
        self.later = [each for each in self.later if each[0] != run]
        if end.keep_shared:
            return
        left = False
        for place, contents in self.federation.places.items():
            for name in [name for name in contents if name[:2] == (self.agent.cluster, run)]:
                if place == EVERYBODYS and name[2] in end.keep:
                    left = True
                else:
                    del contents[name]
        if not left:
            self.marked.discard(run)
        if EVERYBODYS in self.places:
            self.send_outputs(run, [unit for unit in end.keep if (run, unit) in self.store])

    def send_outputs(self, run: RunKey, outputs: list[bytes]) -> None:
        """What the run has left goes to the bucket, as its outputs ask for."""
        for unit in outputs:
            self.marked.add(run)
            self.federation.places.setdefault(EVERYBODYS, {})[self.agent.cluster, run, unit] = self.store[run, unit]
        if outputs:
            self.say(messages.UnitsShared(self.name, run, EVERYBODYS, tuple(outputs)))


@dataclass
class SharingFederation(Federation):
    """See the module. `loses`: how often a place loses or spoils something; `away`: how often it does not answer.

    `mixed`: nodes reach some places each, and not all of them.
    """

    node_type: ClassVar[type[FakeNode]] = SharingNode
    loses: float = 0.0
    away: float = 0.0
    mixed: bool = False
    shares: float = 0.7  # of what tasks make, with their results; of the rest as much later
    reached: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places: dict[str, dict[tuple[str, RunKey, bytes], bytes]] = {}
        self.marked: dict[tuple[str, str], set[RunKey]] = {}
        self.taken: Counter[str] = Counter()  # units that came from places
        self.finishing: SharingNode | None = None
        for cluster, nodes in self.clusters.items():
            for node in nodes:
                places = [f"redis://{cluster}", EVERYBODYS]
                count = self.random.randint(0, 2) if self.mixed else 2
                self.reached[cluster, node] = tuple(self.random.sample(places, count))
        super().__post_init__()

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        node = self.finishing
        outputs = super().outputs_of(task)
        if node is None or not node.places:
            return outputs
        run = key_of(task.key)
        told = []
        for output in outputs:
            place = ""
            if self.chance(self.shares):
                place = node.put(run, output.unit.id, output.unit.digest)
            elif self.chance(self.shares):
                node.later.append((run, output.unit.id, output.unit.digest))
            told.append(msgspec.structs.replace(output, place=place))
        return tuple(told)

    def misbehave(self) -> None:
        super().misbehave()
        for contents in self.places.values():
            if contents and self.chance(self.loses):
                name = self.random.choice(list(contents))
                if self.random.random() < 0.5:
                    del contents[name]
                else:
                    contents[name] = b"spoilt"

    def check_unshared(self) -> None:
        """What was freed is not in any place either."""
        results = {unit for agent in self.agents.values() for _, unit in agent.core._book.lives[RUN].run.outputs}
        left = [name for contents in self.places.values() for name in contents if name[2] not in results]
        assert not left, f"{len(left)} units that nobody needs are left in shared places"

    def check_swept(self) -> None:
        """Nothing is left in any place."""
        left = [name for contents in self.places.values() for name in contents]
        assert not left, f"{len(left)} units are left in shared places"
