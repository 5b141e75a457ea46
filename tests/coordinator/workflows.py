"""Fragments for tests: a graph written in a few lines, and random ones that keep the planner's rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from bdw_fed.v1 import model_pb2

EACH = model_pb2.PAIRING_EACH
SAME = model_pb2.PAIRING_SAME_CLUSTER
GATHER = model_pb2.PAIRING_GATHER_ALL
BROADCAST = model_pb2.PAIRING_BROADCAST
CROSS = model_pb2.PAIRING_CROSS
ZIP = model_pb2.PAIRING_ZIP
GROUP = model_pb2.PAIRING_GROUP
GATHER_EACH = model_pb2.PAIRING_GATHER_EACH


@dataclass
class Use:
    """A step of a run. `inputs`: port -> ("step.port", pairing); `also`: port -> further "step.port"s that it reads."""

    name: str
    executors: Sequence[str]
    inputs: Mapping[str, tuple[str, model_pb2.Pairing.ValueType]] = field(default_factory=dict)
    outputs: Sequence[str] = ("out",)
    kind: str = "task"
    pinned: bool = False
    counter: str = ""
    cpus: float = 1.0
    memory: int = 0
    attempts: int = 3
    pool_min: int = 0
    pool_max: int = 0
    idle: float = 60.0
    batch: model_pb2.Batch | None = None  # of the ports that are read unit by unit
    group_by: str = "*-{key}.csv"  # of the ports that are grouped: by a unit's index
    also: Mapping[str, Sequence[str]] = field(default_factory=dict)
    more: model_pb2.Step = field(default_factory=model_pb2.Step)  # what else its definition says
    per_slot: bool = False

    def proto(self) -> model_pb2.Step:
        step = model_pb2.Step(name=self.name, definition="" if self.kind != "task" else f"{self.name}@1")
        if self.kind == "task":
            step.execution.python.function = f"{self.name}:main"
        elif self.kind == "split":
            step.execution.split.split.per_slot = self.per_slot
            step.execution.split.split.lines = 0 if self.per_slot else 10
        else:
            getattr(step.execution, self.kind).SetInParent()
        for port, (origin, pairing) in self.inputs.items():
            for each in (origin, *self.also.get(port, ())):
                from_step, from_port = each.rsplit(".", 1)
                given = step.inputs.add(
                    name=port, format="csv", from_step=from_step, from_port=from_port, pairing=pairing
                )
                if pairing == GROUP:
                    given.group_by = self.group_by
                if pairing == EACH and self.batch is not None:
                    given.batch.CopyFrom(self.batch)
        for port in self.outputs:
            step.outputs.add(name=port, format="csv")
        step.resources.cpus = self.cpus
        step.resources.memory = self.memory
        step.retry.attempts = self.attempts
        step.retry.backoff = 1.0
        step.retry.factor = 2.0
        step.retry.max_backoff = 60.0
        step.pool.min, step.pool.max, step.pool.idle = self.pool_min, self.pool_max, self.idle
        for cluster in self.executors:
            step.executors.add(cluster=cluster, share=1 / len(self.executors))
        step.counter = self.counter or self.executors[0]
        step.pinned = self.pinned or self.kind in ("split", "output")
        step.MergeFrom(self.more)
        return step


def source(name: str, clusters: Sequence[str]) -> Use:
    return Use(f"inputs.{name}", clusters, kind="source", pinned=True)


def split(of: Use, port: str = "rows") -> Use:
    return Use(f"{of.name}.{port}.split", of.executors, {"in": (f"{of.name}.out", EACH)}, kind="split")


def merge(of: Use, cluster: str, port: str = "out") -> Use:
    return Use(f"{of.name}.{port}.merge", [cluster], {"in": (f"{of.name}.{port}", GATHER)}, kind="merge")


def merges_of_clusters(of: Use, clusters: Sequence[str], port: str = "out") -> Use:
    """What a tree merges on each cluster, or, on fewer, what the nearest of them gets."""
    return Use(f"{of.name}.{port}.local.merge", clusters, {"in": (f"{of.name}.{port}", GATHER_EACH)}, kind="merge")


def output(of: Use, name: str = "report", port: str = "out") -> Use:
    return Use(f"outputs.{name}", of.executors, {"in": (f"{of.name}.{port}", EACH)}, (), kind="output")


def fragments(
    steps: Iterable[Use],
    parts: Mapping[str, Mapping[str, int]],
    clusters: Iterable[str],
    *,
    run: str = "run-1",
    epoch: int = 1,
    policy: model_pb2.Policy | None = None,
) -> dict[str, bytes]:
    """For each cluster its serialised fragment. `parts`: source step -> cluster -> number of parts there."""
    protos = [step.proto() for step in steps]
    names = list(clusters)
    result = {}
    for cluster in names:
        fragment = model_pb2.Fragment(
            namespace="default", run=run, cluster=cluster, epoch=epoch, revision=epoch, steps=protos, workflow="test"
        )
        fragment.policy.MergeFrom(policy or model_pb2.Policy())
        for other in names:
            fragment.epochs[other] = epoch
        if epoch > 1:
            fragment.table.table = table(names, epoch, run=run)
        for step, places in parts.items():
            index = 0
            for place, count in places.items():
                for _ in range(count):
                    if place == cluster:
                        fragment.sources.add(step=step, index=index, path=f"{step}/{index}.csv", size=1000)
                    index += 1
        result[cluster] = fragment.SerializeToString()
    return result


def table(clusters: Iterable[str], epoch: int, *, run: str = "run-1") -> bytes:
    """What the hub would sign."""
    epochs = dict.fromkeys(clusters, epoch)
    return model_pb2.EpochTable(namespace="default", run=run, revision=epoch, epochs=epochs).SerializeToString()


def some_of(random: Random, clusters: Sequence[str]) -> list[str]:
    """At least one of them."""
    return random.sample(list(clusters), random.randint(1, len(clusters)))


def random_graph(random: Random, clusters: Sequence[str]) -> tuple[list[Use], dict[str, dict[str, int]]]:
    """A graph with sources on some clusters, splits, steps a unit, joins of a cluster, gathers, side outputs."""
    edges = random.sample(list(clusters), random.randint(1, len(clusters)))
    some = partial(some_of, random, clusters)
    one = lambda: [random.choice(list(clusters))]  # noqa: E731
    flights = source("flights", edges)
    steps = [flights]
    parts = {flights.name: {cluster: random.randint(0, 3) for cluster in edges}}
    joins = random.random() < 0.5
    last = flights
    if random.random() < 0.7:
        last = split(flights)
        steps.append(last)
    for number in range(random.randint(0, 2)):
        executors = list(last.executors) if joins else some()
        last = Use(f"each{number}", executors, {"rows": (f"{last.name}.out", EACH)}, pinned=joins)
        last.counter = random.choice(list(clusters))
        steps.append(last)
    if joins:
        weather = source("weather", edges)
        parts[weather.name] = {cluster: random.randint(0, 2) for cluster in edges}
        steps.append(weather)
        side = weather
        if random.random() < 0.5:
            side = Use("prepare", edges, {"rows": ("inputs.weather.out", EACH)}, pinned=True)
            steps.append(side)
        inputs = {"rows": (f"{last.name}.out", EACH), "side": (f"{side.name}.out", SAME)}
        last = Use("join", last.executors, inputs, outputs=("out", "rejected"), pinned=True)
        last.counter = random.choice(list(clusters))
        steps.append(last)
        if random.random() < 0.5:
            steps.append(output(last, "rejected", "rejected"))
    if random.random() < 0.4:
        branch = Use("branch", some(), {"rows": (f"{last.name}.out", EACH)})
        steps += [branch, output(branch, "branch")]
    if random.random() < 0.3:
        lone = Use("lone", one())
        steps += [lone, output(lone, "lone")]
    if random.random() < 0.8:
        inputs = {"parts": (f"{last.name}.out", GATHER)}
        if random.random() < 0.3:
            inputs["raw"] = (f"{flights.name}.out", GATHER)
        last = Use("report", one(), inputs)
        last.counter = random.choice(list(clusters))
        steps.append(last)
        if random.random() < 0.4:
            last = Use("publish", some(), {"report": ("report.out", EACH)})
            steps.append(last)
    steps.append(output(last, "result"))
    return steps, parts
