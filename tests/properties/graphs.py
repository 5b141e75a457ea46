"""Random DAGs that keep the planner's rules, with ports that several steps read, each in its own way, and ports that
read from several.

A port is *settled* as long as each of its units lies where its source lay; only such ports are paired within a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from bdw_fed.v1 import model_pb2
from tests.coordinator.workflows import (
    BROADCAST,
    CROSS,
    EACH,
    GATHER,
    GATHER_EACH,
    GROUP,
    SAME,
    ZIP,
    Use,
    output,
    source,
)

Parts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class _Port:
    step: Use
    port: str
    settled: bool

    @property
    def name(self) -> str:
        return f"{self.step.name}.{self.port}"


def random_dag(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """The steps in order, and where the parts of the sources lie."""
    growing = _Growing(random, list(clusters))
    for _ in range(random.randint(1, 2)):
        growing.source()
    for _ in range(random.randint(2, 8)):
        random.choice(
            (growing.split, growing.each, growing.each, growing.each, growing.join, growing.gather, growing.merge)
        )()
    if random.random() < 0.2:
        growing.lone()
    growing.save()
    return growing.steps, growing.parts


def random_shapes(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """A graph like those of `random_dag`, in which every shape stands that units can come together in."""
    growing = _Growing(random, list(clusters))
    for _ in range(random.randint(1, 2)):
        growing.source()
    shapes = (growing.broadcast, growing.batch, growing.meet, growing.cross, growing.zip)
    for _ in range(random.randint(2, 6)):
        random.choice((growing.split, growing.each, growing.join, growing.gather, *shapes, *shapes))()
    growing.save()
    return growing.steps, growing.parts


class _Growing:
    """A graph to which step after step is added."""

    def __init__(self, random: Random, clusters: list[str]) -> None:
        self.random = random
        self.clusters = clusters
        self.steps: list[Use] = []
        self.parts: Parts = {}
        self.ports: list[_Port] = []
        self.read: set[str] = set()

    def some(self) -> list[str]:
        return self.random.sample(self.clusters, self.random.randint(1, len(self.clusters)))

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.steps)}"

    def pick(self) -> _Port:
        port = self.random.choice(self.ports[-4:])
        self.read.add(port.name)
        return port

    def also(self, of: _Port, among: Sequence[_Port]) -> list[str]:
        """Mostly nothing, or a further port that is read as the first one is."""
        others = [port for port in among if port.name != of.name]
        if not others or self.random.random() < 0.7:
            return []
        other = self.random.choice(others)
        self.read.add(other.name)
        return [other.name]

    def add(self, step: Use, *, settled: bool) -> None:
        if step.inputs and step.kind == "task":
            step.counter = self.random.choice(self.clusters)
        self.steps.append(step)
        self.ports += [_Port(step, port, settled) for port in step.outputs]

    def source(self) -> None:
        where = self.some()
        step = source(self.name("data"), where)
        self.parts[step.name] = {cluster: self.random.randint(0, 2) for cluster in where}
        self.add(step, settled=True)

    def split(self) -> None:
        of = self.pick()
        step = Use(self.name("split"), of.step.executors, {"in": (of.name, EACH)}, kind="split")
        step.per_slot = self.random.random() < 0.3
        self.add(step, settled=of.settled)

    def each(self) -> None:
        of = self.pick()
        pinned = self.random.random() < 0.4
        where = of.step.executors if pinned else self.some()
        outputs = ("out", "rest") if self.random.random() < 0.3 else ("out",)
        step = Use(self.name("each"), where, {"rows": (of.name, EACH)}, outputs, pinned=pinned)
        step.cpus = self.random.choice((0.5, 1.0))
        alike = [port for port in self.ports if port.settled and port.step.executors == of.step.executors]
        step.also = {"rows": self.also(of, alike if pinned else self.ports)}
        self.add(step, settled=of.settled and pinned)

    def join(self) -> None:
        settled = [port for port in self.ports if port.settled]
        driving = self.random.choice(settled)
        side = self.random.choice([port for port in settled if port.step.executors == driving.step.executors])
        self.read |= {driving.name, side.name}
        inputs = {"rows": (driving.name, EACH), "side": (side.name, SAME)}
        step = Use(self.name("join"), driving.step.executors, inputs, pinned=True)
        alike = [port for port in settled if port.step.executors == driving.step.executors]
        step.also = {"rows": self.also(driving, alike), "side": self.also(side, alike)}
        self.add(step, settled=True)

    def broadcast(self) -> None:
        inputs = {"rows": (self.pick().name, EACH), "all": (self.pick().name, BROADCAST)}
        self.add(Use(self.name("reader"), self.some(), inputs), settled=False)

    def batch(self) -> None:
        inputs = {"rows": (self.pick().name, EACH)}
        if self.random.random() < 0.3:
            inputs["all"] = (self.pick().name, BROADCAST)
        step = Use(self.name("batch"), self.some(), inputs)
        step.batch = model_pb2.Batch(count=self.random.choice((0, 1, 2, 5)), wait=self.random.choice((0.0, 0.1, 30.0)))
        if not step.batch.count:
            step.batch.size = self.random.choice((500, 2500))
        self.add(step, settled=False)

    def cross(self) -> None:
        if any(step.name.startswith("cross") for step in self.steps):
            return  # pairs of pairs are very many
        inputs = {"all": (self.pick().name, CROSS), "rows": (self.pick().name, EACH)}
        if self.random.random() < 0.2:
            inputs["more"] = (self.pick().name, BROADCAST)
        self.add(Use(self.name("cross"), self.some(), inputs), settled=False)

    def zip(self) -> None:
        """Two steps of the same units, whose outputs are zipped; none of these units has come by two ways."""
        of = self.pick()
        if not self.plain(of.step):
            return
        ways = []
        for _ in range(2):
            self.add(Use(self.name("way"), self.some(), {"rows": (of.name, EACH)}), settled=False)
            ways.append(self.ports[-1].name)
        self.read.update(ways)
        self.add(Use(self.name("zip"), self.some(), {"a": (ways[0], ZIP), "b": (ways[1], ZIP)}), settled=False)

    def plain(self, step: Use) -> bool:
        """No port on the way to the step reads several."""
        by_name = {each.name: each for each in self.steps}
        before = [by_name[origin.rpartition(".")[0]] for origin, _ in step.inputs.values()]
        return not any(step.also.values()) and all(self.plain(each) for each in before)

    def meet(self) -> None:
        pairing = self.random.choice((GROUP, GATHER_EACH))
        inputs = {f"parts{index}": (self.pick().name, pairing) for index in range(self.random.randint(1, 2))}
        if self.random.random() < 0.3:
            inputs["all"] = (self.pick().name, BROADCAST)
        self.add(Use(self.name("meet"), self.some(), inputs), settled=False)

    def gather(self) -> None:
        inputs = {f"parts{index}": (self.pick().name, GATHER) for index in range(self.random.randint(1, 2))}
        step = Use(self.name("gather"), [self.random.choice(self.clusters)], inputs)
        first = next(port for port in self.ports if port.name == inputs["parts0"][0])
        step.also = {"parts0": self.also(first, self.ports)}
        self.add(step, settled=False)

    def merge(self) -> None:
        of = self.pick().name
        if self.random.random() < 0.5:  # a tree
            local = Use(self.name("local"), self.some(), {"in": (of, GATHER_EACH)}, kind="merge")
            self.add(local, settled=False)
            of = f"{local.name}.out"
            self.read.add(of)
        step = Use(self.name("merge"), [self.random.choice(self.clusters)], {"in": (of, GATHER)}, kind="merge")
        self.add(step, settled=False)

    def lone(self) -> None:
        self.add(Use(self.name("lone"), [self.random.choice(self.clusters)]), settled=False)

    def save(self) -> None:
        """Results of the run: the last port, and others that nothing reads; some are read by nobody at all."""
        *others, last = self.ports
        saved = [port for port in others if port.name not in self.read and self.random.random() < 0.7]
        for number, port in enumerate([*saved, last]):
            self.steps.append(output(port.step, f"result{number}", port.port))
