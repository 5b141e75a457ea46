"""What the fake agents' hub is given: topologies with all clusters, a step, workflows that run on one cluster each."""

from __future__ import annotations

from collections.abc import Sequence

_IN_A_TOPOLOGY = 500  # clusters: a topology is one value in etcd
_IN_A_ZONE = 10  # clusters, which reach each other
WORKFLOWS = 100  # at most: runs are of these in turn

STEP = """\
kind: Step
metadata: {name: fake-work, version: "1"}
spec:
  run: {command: ["true"]}
  inputs: {rows: {}}
  outputs: {rows: {}}
"""


def clusters(count: int) -> list[str]:
    """The names of so many clusters."""
    return [f"fake-{number:05d}" for number in range(count)]


def documents(names: Sequence[str], tasks: int) -> list[str]:
    """All that is applied, as YAML."""
    topologies = [names[start : start + _IN_A_TOPOLOGY] for start in range(0, len(names), _IN_A_TOPOLOGY)]
    return [
        *(_topology(number, members) for number, members in enumerate(topologies)),
        STEP,
        *(_workflow(name, tasks) for name in workflows(names)),
    ]


def workflows(names: Sequence[str]) -> list[str]:
    """The clusters with a workflow of their own, which bears their name."""
    return list(names[:: max(1, len(names) // WORKFLOWS)][:WORKFLOWS])


def topology_of(names: Sequence[str], cluster: str) -> str:
    """The name of the topology in which a cluster stands."""
    return f"fake-{names.index(cluster) // _IN_A_TOPOLOGY}"


def _topology(number: int, members: Sequence[str]) -> str:
    zones = [f"    - {{name: zone-{index}, tier: edge}}" for index in range(-(-len(members) // _IN_A_ZONE))]
    listed = [
        f"    - {{name: {name}, zone: zone-{index // _IN_A_ZONE}, nodes: [{{name: n1, cpus: 4}}]}}"
        for index, name in enumerate(members)
    ]
    datasets = [f"    - {{name: rows-{name}, parts: [{{at: {name}, path: rows.csv, size: 1000}}]}}" for name in members]
    lines = ["kind: Topology", f"metadata: {{name: fake-{number}}}", "spec:", "  zones:", *zones]
    return "\n".join([*lines, "  clusters:", *listed, "  datasets:", *datasets, ""])


def _workflow(name: str, tasks: int) -> str:
    return f"""\
kind: Workflow
metadata: {{name: {name}}}
spec:
  inputs: {{rows: {{dataset: rows-{name}}}}}
  steps:
    - name: work
      use: fake-work@1
      in: {{rows: {{from: inputs.rows, split: {{count: {tasks}}}}}}}
      place: {{clusters: [{name}]}}
"""
