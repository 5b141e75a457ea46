"""A cluster's agent stands still in the middle of a run, is replaced, comes back, and nothing of it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import Federation
from killing import stopped
from leftovers import await_nothing_more, held

from bdw_fed import SyncClient
from bdw_fed.v1.model_pb2 import RUN_STATE_SUCCEEDED

pytestmark = pytest.mark.fault

TOPOLOGY = """\
kind: Topology
metadata: {name: fogs}
spec:
  zones: [{name: here, tier: edge}, {name: between, tier: fog}, {name: there, tier: cloud}]
  clusters:
    - {name: edge, zone: here, nodes: [{name: n1, cpus: 1, memory: 1Gi}]}
    - {name: fog1, zone: between, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}
    - {name: fog2, zone: between, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}
    - {name: cloud, zone: there, nodes: [{name: n1, cpus: 1, memory: 1Gi}]}
  links:
    - {between: [here, between], bandwidth: 100Mbit, latency: 1ms}
    - {between: [between, there], bandwidth: 100Mbit, latency: 1ms}
    - {between: [here, there], bandwidth: 100Mbit, latency: 1ms}
  datasets: [{name: numbers, parts: [{at: edge, path: data/edge/numbers.csv}]}]
"""
OBJECTS = """\
kind: Step
metadata: {name: slow-sum, version: "1"}
spec:
  run:
    command:
      - sh
      - -c
      - 'sleep 0.3; s=0; while read n; do s=$((s+n)); done < "$0"; echo $s > "$1"'
      - "{in.rows}"
      - "{out.sum}"
  inputs: {rows: {}}
  outputs: {sum: {format: txt}}
  pool: {idle: 1s}
---
kind: Step
metadata: {name: all-sums, version: "1"}
spec:
  run: {command: [sh, -c, 'o="$0"; cat "$@" | sort -n > "$o"', "{out.list}", "{in.sums}"]}
  inputs: {sums: {}}
  outputs: {list: {format: txt}}
  pool: {idle: 1s}
---
kind: Workflow
metadata: {name: sums}
spec:
  inputs: {numbers: {dataset: numbers}}
  steps:
    - {name: sum, use: slow-sum@1, in: {rows: {from: inputs.numbers, split: {lines: 5}}}, place: {tier: fog}}
    - {name: again, use: slow-sum@1, in: {rows: sum.sum}, place: {tier: fog}}
    - {name: all, use: all-sums@1, in: {sums: {from: again.sum, gather: all}}, place: {tier: cloud}}
  outputs: {list: {from: all.list, file: list.txt}}
  policy: {disconnect: {lost_after: 5s, replace: true}}
"""
NUMBERS = range(300)
EXPECTED = "".join(f"{sum(NUMBERS[at : at + 5])}\n" for at in range(0, len(NUMBERS), 5))


@pytest.fixture
def fogs(tmp_path: Path) -> Iterator[Federation]:
    """A federation of its own: it is broken."""
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "objects.yaml").write_text(OBJECTS)
    for cluster in ("edge", "fog1", "fog2", "cloud"):
        (tmp_path / "data" / cluster).mkdir(parents=True)
    (tmp_path / "data" / "edge" / "numbers.csv").write_text("".join(f"{number}\n" for number in NUMBERS))
    started = Federation.start(tmp_path, tmp_path / "topology.yaml")
    try:
        started.apply(tmp_path / "objects.yaml")
        yield started
    finally:
        started.stop()


def test_a_cluster_that_stands_still_is_replaced_and_stops_when_it_is_back(fogs: Federation, tmp_path: Path) -> None:
    before = held(fogs)
    [agent] = [each["pid"] for each in fogs.supervised()[1] if each["name"] == "agent-fog1"]
    run = fogs.submit("sums")
    with SyncClient(state=fogs.state) as client:
        for seen in client.watch_run(run):
            if any(step.done for step in seen.fragments["fog1"].steps if step.step == "again"):
                break
        with stopped(agent):
            for seen in client.watch_run(run):
                if seen.replaced:
                    break
            assert list(seen.replaced) == ["fog1"], seen.message
            assert "fog1" not in seen.fragments
        ended = client.wait(run)
    assert ended.plan_revision == 2
    assert ended.state == RUN_STATE_SUCCEEDED, ended.message
    assert fogs.outputs(run, tmp_path / "outputs") == {"list.txt": EXPECTED}
    events = fogs.call("events", run)
    assert "task.recalled" in events, "what the others had done was done again"
    fogs.call("delete", "run", run)
    await_nothing_more(fogs, before)
