"""Where the pipeline's units lie: the same workflow once for each tier, beside a plain read of the same file.

    one node                            two nodes of one cluster
    split ─▶ copy ─▶ copy ─▶ copy       split ─▶ copy (n1) ─▶ copy (n2) ─▶ copy (n1)
         each edge lies in the tier                       two edges lie in it

A place that nodes share serves whoever has not got the unit, so its rows need a second node, on which the middle step
runs since it wants more memory than the first has; what crosses between the disks of the two stands beside them. Small
units are slower by the byte, so less of them is enough: each tier says what part of the size it takes. They have a step
of their own, since the workers of one that has made large units are not given many tasks at once any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bdw_fed.perf import floor
from bdw_fed.perf.base import GIB, PerfError, Series, Settings
from bdw_fed.perf.federation import Ended, Federation, copying_step, federation
from bdw_fed.perf.places import Places
from topology.storage import Storage
from workflow.model import Store

STEPS = ("first", "second", "third")
PART = 8 << 20
_CLUSTER = "one"
_COPY, _COPY_SMALL = "copy", "copy-small"
_FLOOR = "the same file as it is read from the page cache, 1 MiB at a time"


@dataclass(frozen=True)
class Tier:
    """A row: where its units lie and how large they are. Its file has one part in `of` of the size asked for."""

    name: str
    what: str
    store: Store
    part: int = PART
    of: int = 1
    step: str = _COPY
    place: bool = False  # what crosses comes out of a place that both nodes share

    @property
    def workflow(self) -> str:
        """Its name."""
        return f"pipeline-{self.name.lower().replace(' ', '-')}"


AUTO = Tier("a GiB", "", "auto")
ON_ONE_NODE = (
    AUTO,
    Tier("journal", "units of 15 KiB, which the node keeps in its journal", "auto", 15 << 10, of=16, step=_COPY_SMALL),
    Tier("memory", "units of 8 MiB, with store: memory on each edge", "memory"),
    Tier("disk", "units of 8 MiB, with store: disk on each edge", "disk"),
)
_DISKS = Tier("disks 8 MiB", "two nodes, which ask each other for units of 8 MiB", "disk", of=4)
_DISKS_LESS = Tier("disks 256 KiB", "two nodes, which ask each other for units of 256 KiB", "disk", 256 << 10, of=4)
_REDIS = Tier("redis", "two nodes, units of 256 KiB by way of a Redis", "shared", 256 << 10, of=4, place=True)
_OBJECTS = Tier("object storage", "two nodes, units of 8 MiB by way of a bucket", "shared", of=4, place=True)


def between_nodes(storage: Storage) -> tuple[list[Tier], list[str]]:
    """The rows that take two nodes, and why others are left out."""
    tiers, left_out = [_DISKS, _DISKS_LESS], []
    for tier, place, what in ((_REDIS, storage.redis, "a Redis"), (_OBJECTS, storage.objects, "a bucket")):
        if place is None:
            left_out.append(f"{tier.name}: it takes {what} in the storage of a cluster, see --topology and --cluster")
        else:
            tiers.append(tier)
    return tiers, left_out


@dataclass
class Taken:
    """What was measured of tiers, each in ms a GiB: of the pipeline, and of the plain read."""

    tiers: Sequence[Tier]
    start_seconds: float = 0.0
    samples: dict[Tier, list[float]] = field(default_factory=dict)
    read: dict[Tier, list[float]] = field(default_factory=dict)

    def series(self) -> list[Series]:
        """As rows."""
        return [
            Series(tier.name, tier.what, self.samples[tier], (), self.read[tier], _FLOOR, of=GIB, unit=tier.part)
            for tier in self.tiers
        ]


def on_one_node(place: Path, settings: Settings) -> Taken:
    """Measure the tiers of a node."""
    topology = _topology(ON_ONE_NODE, "[{name: n1, cpus: 2, memory: 4Gi}]", Storage())
    with federation(place, _files(ON_ONE_NODE, settings), durability=settings.durability, topology=topology) as one:
        one.apply(copying_step(_COPY))
        one.apply(copying_step(_COPY_SMALL), *(_workflow(tier, (tier.step,) * 3) for tier in ON_ONE_NODE))
        return _taken(one, place, ON_ONE_NODE, settings)


def on_two_nodes(place: Path, tiers: Sequence[Tier], settings: Settings) -> Taken:
    """Measure what crosses between two nodes. PerfError if a place can't be used, or did not serve all of it."""
    with Places(settings.storage, settings.storage_credentials, _CLUSTER) as places:
        nodes = "[{name: n1, cpus: 2, memory: 1Gi}, {name: n2, cpus: 1, memory: 2Gi}]"
        with federation(
            place,
            _files(tiers, settings),
            durability=settings.durability,
            topology=_topology(tiers, nodes, places.storage),
            storage_credentials=settings.storage_credentials,
        ) as one:
            places.runs = one.runs
            one.apply(copying_step("here", "{cpus: 2}"))
            workflows = (_workflow(tier, ("here", "there", "here")) for tier in tiers)
            one.apply(copying_step("there", "{cpus: 1, memory: 2Gi}"), *workflows)
            return _taken(one, place, tiers, settings)


def _taken(one: Federation, place: Path, tiers: Sequence[Tier], settings: Settings) -> Taken:
    """In turns, so that whatever else the machine does is shared by all of them."""
    taken = Taken(tiers, one.start_seconds)
    for number in range(settings.repetitions + 1):
        for tier in tiers:
            file = place / "data" / _file(tier)
            read, sample = _read(file), _sample(one, tier, file.stat().st_size)
            if number:  # the first is the warm-up
                taken.read.setdefault(tier, []).append(read)
                taken.samples.setdefault(tier, []).append(sample)
    return taken


def _read(file: Path) -> float:
    began = time.perf_counter()
    floor.read(file)
    return (time.perf_counter() - began) * 1000 * GIB / file.stat().st_size


def _sample(one: Federation, tier: Tier, size: int) -> float:
    """Run it once; ms a GiB."""
    ended = one.run(tier.workflow)
    done = [ended.done(step) for step in STEPS]
    if len(set(done)) != 1 or done[0] < size // tier.part:
        raise PerfError(f"run {ended.run.name} has {done} tasks done, expected as many parts in each step")
    if tier.place:
        check_places(ended, tier)
    return (ended.last("task.done", STEPS[-1]) - ended.run.started_at) * 1000 * GIB / size


def check_places(ended: Ended, tier: Tier) -> None:
    """What crossed came out of the place, and not in the ordinary way, as far as a run's events are remembered."""
    told = [json.loads(event.data_json) for event in ended.events if event.type == "io.bdw-fed.unit.fetched"]
    otherwise = sum(each["from"] != "shared" for each in told)
    if otherwise or not told:
        raise PerfError(
            f"{tier.name}: of the last {len(told)} units that crossed in run {ended.run.name}, {otherwise} are from "
            "the node that made them and not from the place: it is full, or does not keep up; so this is no measure"
        )


# ------------------------------------------------------------------------------------------ files and documents


def _file(tier: Tier) -> str:
    return f"rows-{tier.of}.csv"


def _files(tiers: Sequence[Tier], settings: Settings) -> Callable[[Path], None]:
    def write(data: Path) -> None:
        for tier in {_file(tier): tier for tier in tiers}.values():
            floor.write_csv(data / _file(tier), max(1, settings.size // tier.of))

    return write


def _topology(tiers: Sequence[Tier], nodes: str, storage: Storage) -> str:
    datasets = sorted({f"{{name: rows-{tier.of}, parts: [{{at: {_CLUSTER}, path: {_file(tier)}}}]}}" for tier in tiers})
    return f"""\
kind: Topology
metadata: {{name: perf}}
spec:
  zones: [{{name: here, tier: cloud}}]
  clusters:
    - name: {_CLUSTER}
      zone: here
      runtime: process
      nodes: {nodes}
      storage: {storage.model_dump_json(exclude_defaults=True)}
  datasets: [{", ".join(datasets)}]
"""


def _workflow(tier: Tier, uses: Sequence[str]) -> str:
    """Parts come to the first step on the node that made them, so where a place is measured they don't go there."""
    first = "disk" if tier.place else tier.store
    source = f"{{from: inputs.rows, split: {{size: {tier.part}, header: true}}, store: {first}}}"
    steps = []
    for step, use in zip(STEPS, uses, strict=True):
        steps.append(f"    - {{name: {step}, use: {use}@1, in: {{rows: {source}}}}}\n")
        source = f"{{from: {step}.rows, store: {tier.store}}}"
    return f"""\
kind: Workflow
metadata: {{name: {tier.workflow}}}
spec:
  inputs: {{rows: {{dataset: rows-{tier.of}}}}}
  steps:
{"".join(steps)}"""
