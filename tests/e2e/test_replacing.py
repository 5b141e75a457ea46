"""A cluster's agent stands still in the middle of two runs, is replaced, and comes back: one line of each counts."""

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
KEPT = OBJECTS[OBJECTS.index("kind: Workflow") :].replace("name: sums}", "name: sums-as-they-were}")
OBJECTS += "---\n" + KEPT.replace("replace: true", "replace: true, keep: original")
NUMBERS = range(200)
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


def test_a_cluster_that_stands_still_is_replaced_and_the_policy_says_what_counts_when_it_is_back(
    fogs: Federation, tmp_path: Path
) -> None:
    """One run goes on without it, the other comes back to what it was. Nothing is left of what does not count."""
    before = held(fogs)
    [agent] = [each["pid"] for each in fogs.supervised()[1] if each["name"] == "agent-fog1"]
    run, kept = fogs.submit("sums"), fogs.submit("sums-as-they-were")
    with SyncClient(state=fogs.state) as client:
        for name in (run, kept):
            for seen in client.watch_run(name):
                if any(step.done for step in seen.fragments["fog1"].steps if step.step == "again"):
                    break
        with stopped(agent):
            for name in (run, kept):
                for seen in client.watch_run(name):
                    if seen.replaced:
                        break
                assert list(seen.replaced) == ["fog1"], seen.message
                assert "fog1" not in seen.fragments
                assert seen.HasField("original") == (name == kept)
        ended, as_it_was = client.wait(run), client.wait(kept)
    for each in (ended, as_it_was):
        assert each.plan_revision == 2
        assert each.state == RUN_STATE_SUCCEEDED, each.message
        assert fogs.outputs(each.name, tmp_path / each.name) == {"list.txt": EXPECTED}
    assert ("fog1" in as_it_was.fragments, as_it_was.line, list(as_it_was.replaced)) == (True, "", [])
    assert ("fog1" in ended.fragments, list(ended.replaced)) == (False, ["fog1"])
    for name in (run, kept):
        assert "task.recalled" in fogs.call("events", name), "what the others had done was done again"
    for name in (run, kept):
        fogs.call("delete", "run", name)
    await_nothing_more(fogs, before)
