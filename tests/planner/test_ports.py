"""What a step says of its ports reaches whoever executes it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes.commands import work
from cluster_agent.coordinator.reading import read
from cluster_agent.node.works import read_work
from cluster_agent.orders.messages import Work
from cluster_agent.runtimes.base import Values
from control_plane.planner.core import plan
from tests.planner.conftest import case_of

TEXT = """
kind: Topology
metadata: {name: one}
spec:
  zones: [{name: here, tier: cloud}]
  clusters: [{name: c1, zone: here, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}]
  datasets: [{name: numbers, parts: [{at: c1, path: numbers.csv}]}]
---
kind: Step
metadata: {name: read, version: "1"}
spec:
  run: {python: "steps:read"}
  inputs: {rows: {as: text}, table: {optional: true}}
  outputs: {total: {as: json}, words: {as: text, optional: true}, geo: {as: json, format: geojson}, raw: {as: bytes}}
---
kind: Workflow
metadata: {name: numbers}
spec:
  inputs: {numbers: {dataset: numbers}}
  steps:
    - name: read
      use: read@1
      in: {rows: {from: inputs.numbers, gather: all}, table: {from: inputs.numbers, gather: all}}
"""


def test_how_a_function_takes_and_returns_its_units() -> None:
    fragment = plan(case_of(TEXT).request()).fragments["c1"]
    step = read(fragment.SerializeToString(), "c1").step_by_name["read"]
    live = cast(LiveRun, SimpleNamespace(key=RunKey("default", "run-1")))
    told = read_work(Work(1, work(live, step)), {})
    assert told.values == Values(
        {"rows": "text"},
        {"total": ("json", False), "words": ("text", True), "geo": ("json", False), "raw": ("bytes", False)},
    )
    assert {port.name: (port.format, port.many) for port in told.inputs} == {
        "rows": ("csv", True),
        "table": ("csv", True),
    }
    assert {port.name: port.format for port in told.outputs} == {
        "total": "json",
        "words": "txt",
        "geo": "geojson",
        "raw": "",
    }


def test_an_output_is_kept_for_as_long_as_it_says_or_as_all_are() -> None:
    outputs = "{a: read.total, b: {from: read.total, retain: 2h}, c: {from: read.total, retain: 0s}}"
    text = f"{TEXT}  policy: {{retain_outputs: 3d}}\n  outputs: {outputs}\n"
    steps = plan(case_of(text).request()).fragments["c1"].steps
    kept = {step.name: step.execution.output.retain for step in steps if step.name.startswith("outputs.")}
    assert kept == {"outputs.a": 259_200.0, "outputs.b": 7200.0, "outputs.c": 0.0}
