"""What a step costs in pods, beside what it costs in processes of the same machine.

    python benchmarks/pods.py --state DIR

DIR is the state of a federation whose workers are pods, such as `bdw-fed kind up` makes. The same workflows run there,
on one cluster, and on a federation of processes that is started for it: in turn, so that both see the same machine.
Workers are warm, times are those of the coordinators' events.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from bdw_fed import SyncClient
from bdw_fed.perf.federation import Ended, Federation, federation, scratch
from workflow.bundle import pack

CODE = """\
def begin():
    return 0

def many(size, out):
    out["rows"].write_text("".join(f"{number}\\n" for number in range(size)))

def add_one(unit):
    return unit + 1

def add_one_with_files(unit, out):
    out["unit"].write_bytes(b"%d" % (int(unit.read_bytes()) + 1))
"""
IMAGE = "python:3.11-slim"
STEPS = f"""\
kind: Step
metadata: {{name: bench-begin, version: "1"}}
spec:
  run: {{python: "steps:begin", bundle: ./code, image: "{IMAGE}"}}
  outputs: {{unit: {{as: json}}}}
  resources: {{cpus: 0.5}}
  pool: {{max: 1, idle: 10m}}
---
kind: Step
metadata: {{name: bench-many, version: "1"}}
spec:
  run: {{python: "steps:many", bundle: ./code, image: "{IMAGE}"}}
  parameters: {{size: {{type: integer}}}}
  outputs: {{rows: {{}}}}
  resources: {{cpus: 0.5}}
  pool: {{max: 1, idle: 10m}}
---
kind: Step
metadata: {{name: bench-value, version: "1"}}
spec:
  run: {{python: "steps:add_one", bundle: ./code, image: "{IMAGE}"}}
  inputs: {{unit: {{as: json}}}}
  outputs: {{unit: {{as: json}}}}
  resources: {{cpus: 0.5}}
  pool: {{max: 2, idle: 10m}}
---
kind: Step
metadata: {{name: bench-file, version: "1"}}
spec:
  run: {{python: "steps:add_one_with_files", bundle: ./code, image: "{IMAGE}"}}
  inputs: {{unit: {{}}}}
  outputs: {{unit: {{}}}}
  resources: {{cpus: 0.5}}
  pool: {{max: 2, idle: 10m}}
---
kind: Step
metadata: {{name: bench-program, version: "1"}}
spec:
  run: {{command: [cp, "{{in.unit}}", "{{out.unit}}"], image: "{IMAGE}"}}
  inputs: {{unit: {{}}}}
  outputs: {{unit: {{}}}}
  resources: {{cpus: 0.5}}
  pool: {{max: 2, idle: 10m}}
"""
BODIES = {"values": "bench-value", "files": "bench-file", "programs": "bench-program"}


def chain(name: str, step: str, length: int, cluster: str) -> str:
    """A step to begin with, and so many that depend on each other."""
    place = f"place: {{clusters: [{cluster}]}}"
    uses = [f"    - {{name: s0, use: bench-begin@1, {place}}}"]
    uses += [
        f"    - {{name: s{number}, use: {step}@1, in: {{unit: s{number - 1}.unit}}, {place}}}"
        for number in range(1, length + 1)
    ]
    return "\n".join(["kind: Workflow", f"metadata: {{name: {name}}}", "spec:", "  steps:", *uses]) + "\n"


def fanout(name: str, step: str, units: int, cluster: str) -> str:
    """A file of so many lines, each of which is a unit."""
    return f"""\
kind: Workflow
metadata: {{name: {name}}}
spec:
  steps:
    - {{name: many, use: bench-many@1, parameters: {{size: {units}}}, place: {{clusters: [{cluster}]}}}}
    - name: each
      use: {step}@1
      in: {{unit: {{from: many.rows, split: {{lines: 1}}}}}}
      place: {{clusters: [{cluster}]}}
"""


def of_chain(length: int) -> Callable[[Ended], float]:
    """ms a step."""

    def measured(ended: Ended) -> float:
        assert ended.done(f"s{length}") == 1
        return (ended.last("task.done", f"s{length}") - ended.first("run.started")) * 1000 / (length + 1)

    return measured


def of_fanout(units: int) -> Callable[[Ended], float]:
    """ms a task."""

    def measured(ended: Ended) -> float:
        assert ended.done("each") == units
        return (ended.last("task.done", "each") - ended.run.started_at) * 1000 / units

    return measured


def compare(both: Sequence[tuple[Federation, str]], shape: str, body: str, size: int, repetitions: int) -> list[float]:
    """The median of each, in ms."""
    make, measured = (chain, of_chain(size)) if shape == "chain" else (fanout, of_fanout(size))
    name = f"bench-{shape}-{body}"
    for one, cluster in both:
        one.apply(STEPS, make(name, BODIES[body], size, cluster))
        one.run(name)  # workers are warm after it
    rounds = [[measured(one.run(name)) for one, _ in both] for _ in range(repetitions)]
    return [statistics.median(samples) for samples in zip(*rounds, strict=True)]


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Pods beside processes.")
    parser.add_argument("--state", type=Path, required=True, help="of the federation whose workers are pods")
    parser.add_argument("--cluster", default="cloud1")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--units", type=int, default=2000)
    asked = parser.parse_args(words)
    cases = [("chain", body, asked.length) for body in ("values", "files")]  # what begins a chain is a value
    cases += [("fanout", body, asked.units) for body in BODIES]
    with scratch() as place, SyncClient(state=asked.state) as client, federation(place, "0") as processes:
        code = place / "bench"
        code.mkdir()
        (code / "steps.py").write_text(CODE)
        bundle = pack(code)
        both = [(Federation(processes.client, 0.0, bundle), "one"), (Federation(client, 0.0, bundle), asked.cluster)]
        print("| what | processes | pods | ratio |\n| --- | ---: | ---: | ---: |")
        for shape, body, size in cases:
            quick, slow = compare(both, shape, body, size, asked.repetitions)
            print(f"| {shape} of {size}, {body} | {quick:.3f} ms | {slow:.3f} ms | {slow / quick:.2f} |", flush=True)


if __name__ == "__main__":
    main()
