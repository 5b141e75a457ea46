"""transfer: bytes from one cluster to another, one large file and many small ones.

A federation of three clusters: the data lies on the first, the second is reached over a link like any other, so with
TLS, the third over one that the topology calls trusted. A step that does nothing runs where the data is not, so its
input has to cross. What a large file takes is what the receiving node says: from its asking to the checked file in
its store. Small ones are measured twice: between two stores, and as a run in which each is split off, offered,
fetched, and given to a task of its own on the other cluster.
"""

from __future__ import annotations

import json
from pathlib import Path

from bdw_fed.perf import floor, sockets
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.federation import Ended, Federation, federation, scratch

_LARGE, _SMALL = "large.csv", "small.csv"
_TOPOLOGY = f"""\
kind: Topology
metadata: {{name: perf}}
spec:
  zones: [{{name: here, tier: edge}}, {{name: there, tier: cloud}}, {{name: beside, tier: cloud}}]
  clusters:
    - {{name: one, zone: here, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}]}}
    - {{name: two, zone: there, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}], labels: {{line: public}}}}
    - {{name: three, zone: beside, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}], labels: {{line: private}}}}
  links:
    - {{between: [here, there], bandwidth: 10Gbit}}
    - {{between: [here, beside], bandwidth: 10Gbit, trusted: true}}
  datasets:
    - {{name: large, parts: [{{at: one, path: {_LARGE}}}]}}
    - {{name: small, parts: [{{at: one, path: {_SMALL}}}]}}
"""
_STEP = """\
kind: Step
metadata: {name: look, version: "1"}
spec:
  run: {python: "steps:look", bundle: ./code}
  inputs: {rows: {}}
  outputs: {}
  pool: {idle: 10m}
"""


class Transfer(Case):
    """ms a GiB, and a small file."""

    name = "transfer"
    size = 1024
    counts = "MiB"
    most = 64 << 10

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        size, repetitions = settings.size, settings.repetitions
        files = small_files(size)
        with scratch() as place:
            secure, plain, stores = (
                floor.measured(name, count, repetitions, place, module=sockets.MODULE)
                for name, count in (("tls", size), ("plain", size), ("stores", files))
            )

            def write(data: Path) -> None:
                floor.write_csv(data / _LARGE, size)
                _write_small(data / _SMALL, files)

            with federation(place, write, durability=settings.durability, topology=_TOPOLOGY) as one:
                one.apply(_STEP, *(_workflow(*each) for each in _WORKFLOWS))
                times: dict[str, list[float]] = {}
                for name, count in (("secure", size), ("plain", size), ("many", files)):
                    _sample(one, name, count)
                    times[name] = [_sample(one, name, count) for _ in range(repetitions)]
                start_seconds = one.start_seconds
        crossed = "from the receiving node's asking to the checked file in its store"
        main = Series(
            "a GiB, TLS",
            crossed,
            times["secure"],
            [Target(1.25, of_floor=True)],
            secure,
            "blocking sockets, hash and write",
        )
        others = (
            Series("a GiB, plain", crossed, times["plain"], [Target(1.25, of_floor=True)], plain),
            Series(
                "a file of 10 KB",
                f"from the first asking to the last in the store, by {files} files; two stores, nothing else",
                stores,
                [Target(0.333)],
            ),
            Series(
                "the same, a run",
                "from the run's started_at to the last task.done on the other cluster, by files",
                times["many"],
            ),
        )
        return Result(self.name, size, settings.durability, start_seconds, main, others)


_WORKFLOWS = (("secure", "large", "public", ""), ("plain", "large", "private", ""), ("many", "small", "public", "1"))


def small_files(size: int) -> int:
    """How many small files go beside so many MiB."""
    return max(10, size * 10_000 // 1024)


def _write_small(file: Path, files: int) -> None:
    """Lines of 10 KB, no two alike."""
    with file.open("wb") as lines:
        for number in range(files):
            lines.write(b"%08d," % number * (sockets.SMALL_BYTES // 9) + b"\n")


def _workflow(name: str, dataset: str, line: str, lines: str) -> str:
    split = f", split: {{lines: {lines}}}" if lines else ""
    return f"""\
kind: Workflow
metadata: {{name: {name}}}
spec:
  inputs: {{rows: {{dataset: {dataset}}}}}
  steps:
    - {{name: look, use: look@1, in: {{rows: {{from: inputs.rows{split}}}}}, place: {{labels: {{line: {line}}}}}}}
"""


def _sample(one: Federation, workflow: str, count: int) -> float:
    """Run it once; ms a GiB, or a small file."""
    ended = one.run(workflow)
    if workflow == "many":
        if ended.done("look") != count:
            raise PerfError(f"run {ended.run.name} has {ended.done('look')} tasks done, expected {count}")
        return (ended.last("task.done", "look") - ended.run.started_at) * 1000 / count
    size, seconds = _crossed(ended)
    if size < count << 19:
        raise PerfError(f"run {ended.run.name} moved {size} bytes, expected about {count} MiB")
    return seconds * 1000 * (1 << 30) / size


def _crossed(ended: Ended) -> tuple[int, float]:
    """Bytes and seconds of the run's only transfer."""
    told = [json.loads(event.data_json) for event in ended.events if event.type == "io.bdw-fed.unit.fetched"]
    if len(told) != 1:
        raise PerfError(f"run {ended.run.name} fetched {len(told)} units, expected one")
    return told[0]["bytes"], told[0]["seconds"]
