"""Jobs for federations on virtual time: a chain over some clusters, written as their users would write it."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.job import Job

OBJECTS = """
kind: Topology
metadata: {{name: t}}
spec:
  zones: [{{name: here, tier: edge}}]
  clusters:
{clusters}
  datasets: [{{name: rows, parts: [{{at: {at}, path: rows.csv, size: 1MiB}}]}}]
---
kind: Step
metadata: {{name: work, version: "1"}}
spec:
  run: {{python: "code:main"}}
  inputs: {{rows: {{}}}}
  outputs: {{rows: {{}}}}
---
kind: Workflow
metadata: {{name: w}}
spec:
  inputs: {{rows: {{dataset: rows}}}}
  steps:
{steps}
  policy: {{reserve: {reserve}}}
  outputs: {{rows: s{last}.rows}}
"""


def chain(
    stages: Sequence[str],
    *,
    reserve: str = "hold",
    units: int = 4,
    cpus: float = 1.0,
    seconds: float = 1.0,
    clusters: dict[str, dict[str, float]],
    most: int = 0,
    preemptible: bool = False,
) -> Job:
    """A step on each of `stages` (a cluster, or "" for any), one after the other, over so many units."""
    declared = "\n".join(
        f"    - {{name: {name}, zone: here, runtime: process, nodes: ["
        + ", ".join(f"{{name: {node}, cpus: {room:g}, memory: 4Gi}}" for node, room in nodes.items())
        + "]}"
        for name, nodes in clusters.items()
    )
    steps = ""
    for index, where in enumerate(stages):
        split = f"{{from: inputs.rows, split: {{count: {units}}}}}"
        steps += (
            f"    - name: s{index}\n      use: work@1\n"
            f"      in: {{rows: {split if index == 0 else f's{index - 1}.rows'}}}\n"
            f"      place: {{{f'clusters: [{where}]' if where else ''}}}\n"
            f"      resources: {{cpus: {cpus:g}}}\n"
            f"      pool: {{max: {most}}}\n"
            f"      preemptible: {'true' if preemptible else 'false'}\n"
        )
    at = next(where for where in [*stages, *clusters] if where)
    text = OBJECTS.format(clusters=declared, at=at, steps=steps, reserve=reserve, last=len(stages) - 1)
    return Job.written(text, {f"s{index}": seconds for index in range(len(stages))})
