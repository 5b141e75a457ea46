"""The hub stands still while ten runs end: all of them do, agents answer for it, and it knows all once it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import CommandError, Federation
from killing import pids, stopped

from bdw_fed import SyncClient
from bdw_fed.cli.exits import UNAVAILABLE
from bdw_fed.v1.model_pb2 import RUN_STATE_SUCCEEDED

pytestmark = pytest.mark.fault

RUNS = 10
NUMBERS = range(200)
EXPECTED = "".join(f"{number}\n" for number in NUMBERS)
TOPOLOGY = """\
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: here, tier: edge}, {name: there, tier: cloud}]
  clusters:
    - {name: edge, zone: here, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}
    - {name: cloud, zone: there, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}
  links: [{between: [here, there], bandwidth: 100Mbit, latency: 1ms}]
  datasets: [{name: numbers, parts: [{at: edge, path: data/edge/numbers.csv}]}]
"""
OBJECTS = """\
kind: Step
metadata: {name: pass-on, version: "1"}
spec:
  run: {command: [sh, -c, 'sleep "$2"; cp "$0" "$1"', "{in.row}", "{out.row}", "{param.seconds}"]}
  parameters: {seconds: {type: number, default: 0}}
  inputs: {row: {}}
  outputs: {row: {}}
---
kind: Step
metadata: {name: sort, version: "1"}
spec:
  run: {command: [sh, -c, 'o="$0"; cat "$@" | sort -n > "$o"', "{out.list}", "{in.rows}"]}
  inputs: {rows: {}}
  outputs: {list: {}}
---
kind: Workflow
metadata: {name: passing}
spec:
  parameters: {seconds: {type: number, default: 0}}
  inputs: {numbers: {dataset: numbers}}
  steps:
    - name: first
      use: pass-on@1
      in: {row: {from: inputs.numbers, split: {lines: 1}}}
      place: {tier: edge}
      parameters: {seconds: "{param.seconds}"}
    - {name: second, use: pass-on@1, in: {row: first.row}, place: {tier: cloud}}
    - {name: list, use: sort@1, in: {rows: {from: second.row, gather: all}}, place: {tier: cloud}}
  outputs: {list: {from: list.list, file: list.txt}}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation whose hub may be stopped."""
    tmp_path = tmp_path_factory.mktemp("two")
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "objects.yaml").write_text(OBJECTS)
    for cluster in ("edge", "cloud"):
        (tmp_path / "data" / cluster).mkdir(parents=True)
    (tmp_path / "data" / "edge" / "numbers.csv").write_text(EXPECTED)
    started = Federation.start(tmp_path, tmp_path / "topology.yaml")
    try:
        started.apply(tmp_path / "objects.yaml")
        yield started
    finally:
        started.stop()


def test_ten_runs_end_while_the_hub_stands_still_and_it_knows_them_when_it_is_back(
    two: Federation, tmp_path: Path
) -> None:
    runs = [two.submit("passing") for _ in range(RUNS)]
    endless = two.submit("passing", seconds=600)
    two.wait_until_running(runs[-1])
    with stopped(*pids(two, "hub")):
        for run in runs:
            for cluster in ("edge", "cloud"):
                two.call("watch", run, "--agent", cluster)
        listed = {each["name"]: each for each in two.ask("get", "runs", "--agent", "cloud")}
        assert {listed[run]["state"] for run in runs} == {"RUN_STATE_SUCCEEDED"}
        assert two.ask("describe", "run", endless, "--agent", "edge")["tasks"]
        assert "fragment.ended" in two.call("events", runs[0], "--agent", "cloud")
        assert "is cancelled" in two.call("cancel", endless, "--reason", "enough", "--agent", "edge")
    begun = time.monotonic()
    with SyncClient(state=two.state) as client:
        ended = [client.wait(run) for run in runs]
        took = time.monotonic() - begun
        assert {run.state for run in ended} == {RUN_STATE_SUCCEEDED}, [run.message for run in ended]
        cancelled = client.wait(endless)
    assert cancelled.message == "cancelled on edge: enough"
    for run in runs:
        assert two.outputs(run, tmp_path / run) == {"list.txt": EXPECTED}
    tasks = sum(step.done for run in ended for part in run.fragments.values() for step in part.steps)
    print(f"the hub knew of {RUNS} runs with {tasks} tasks {took:.2f} s after it went on")


def test_an_agent_that_is_not_there_is_said_to_be(two: Federation) -> None:
    with pytest.raises(CommandError) as error:
        two.call("get", "runs", "--agent", "edge@127.0.0.1:1")
    assert error.value.code == UNAVAILABLE
    with pytest.raises(CommandError, match="there is no cluster nowhere"):
        two.call("get", "runs", "--agent", "nowhere")
