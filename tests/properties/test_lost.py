"""Hub and coordinators together: links are cut for any time, clusters are replaced and come back, and every run ends.

The production planner, runs and coordinators on virtual time. Whatever is cut, dies and returns when it will, the run
succeeds, and in the line of history that counts each task was done exactly once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator import records
from cluster_agent.coordinator.cache.records import Recalled, Reused
from cluster_agent.coordinator.runs.records import FragmentTaken
from cluster_agent.coordinator.tasks.records import Committed
from simulator.federation import Federation
from simulator.job import Job
from tests.settings import few

JOB = """
kind: Topology
metadata: {name: fogs}
spec:
  zones: [{name: here, tier: edge}, {name: between, tier: fog}, {name: there, tier: cloud}]
  clusters:
    - {name: edge, zone: here, nodes: [{name: n1, cpus: 2}]}
    - {name: fog1, zone: between, nodes: [{name: n1, cpus: 2}]}
    - {name: fog2, zone: between, nodes: [{name: n1, cpus: 1}, {name: n2, cpus: 1}]}
    - {name: fog3, zone: between, nodes: [{name: n1, cpus: 1}]}
    - {name: cloud1, zone: there, nodes: [{name: n1, cpus: 2}]}
    - {name: cloud2, zone: there, nodes: [{name: n1, cpus: 2}]}
  links:
    - {between: [here, between], bandwidth: 100Mbit, latency: 1ms}
    - {between: [between, there], bandwidth: 100Mbit, latency: 1ms}
    - {between: [here, there], bandwidth: 100Mbit, latency: 1ms}
  datasets: [{name: rows, parts: [{at: edge, path: rows.csv, size: 1000}]}]
---
kind: Step
metadata: {name: work, version: "1"}
spec: {run: {command: [cp, "{in.row}", "{out.row}"]}, inputs: {row: {}}, outputs: {row: {}}}
---
kind: Workflow
metadata: {name: through}
spec:
  inputs: {rows: {dataset: rows}}
  steps:
    - {name: clean, use: work@1, in: {row: {from: inputs.rows, split: {count: 12}}}, place: {tier: edge}}
    - {name: first, use: work@1, in: {row: clean.row}, place: {tier: fog}}
    - {name: second, use: work@1, in: {row: first.row}, place: {tier: fog}}
    - {name: report, use: work@1, in: {row: {from: second.row, gather: all}}, place: {tier: cloud}}
  outputs: {report: report.row}
  policy: {disconnect: {lost_after: 5s, replace: true, stop_after: STOP, keep: KEEP}}
"""
CLUSTERS = ("edge", "fog1", "fog2", "fog3", "cloud1", "cloud2")


@dataclass(frozen=True)
class Mishap:
    """At that second: the hub's link to a cluster is cut for so long, or an agent (seconds = 0) or the hub dies.

    `disk`: the agent dies with its log. `stalled`: the nodes stand still from then on.
    """

    at: float
    cluster: str
    seconds: float
    disk: bool = False
    stalled: bool = False


times = st.floats(0.0, 30.0)
cuts = st.builds(Mishap, times, st.sampled_from(CLUSTERS), st.floats(0.5, 60.0))
deaths = st.builds(Mishap, times, st.sampled_from((*CLUSTERS, "hub")), st.just(0.0))
disks = st.builds(Mishap, times, st.sampled_from(CLUSTERS), st.just(0.0), st.just(True))
mishaps = st.lists(st.one_of(cuts, cuts, deaths), min_size=1, max_size=6)


def happen(federation: Federation, mishap: Mishap) -> None:
    if mishap.stalled:
        for node in federation.clusters[mishap.cluster].nodes:
            node.cpus = 0.0
    if mishap.seconds:
        federation.cut(mishap.cluster, mishap.seconds)
    elif mishap.disk:
        if not federation.hub.ended:  # else what was done can't be counted
            federation.lose_log(mishap.cluster)
    elif mishap.cluster == "hub":
        federation.crash_hub()
    else:
        federation.crash(mishap.cluster)


def ran(
    mishaps: list[Mishap], seconds: float = 1.0, stop: str = "0s", keep: str = "replacement", count: int = 12
) -> Federation:
    """A run among these mishaps, until all is over and everybody was heard again."""
    text = JOB.replace("STOP", stop).replace("KEEP", keep).replace("count: 12", f"count: {count}")
    job = Job.written(text, dict.fromkeys(("clean", "first", "second", "report"), seconds))
    federation = Federation.of(job.request.topology)
    federation.clock.run(1.0)
    federation.hub.submit("r", job)
    begun = federation.clock.now
    for mishap in mishaps:
        federation.clock.at(begun + mishap.at, lambda mishap=mishap: happen(federation, mishap))  # type: ignore[misc]
    federation.clock.run(begun + 1_000.0, lambda: federation.hub.ended)
    federation.clock.run(federation.clock.now + 200.0)
    return federation


def check(federation: Federation, count: int = 12) -> m.Run:
    run = federation.hub.runs["default", "r"]
    assert run.state == m.RUN_STATE_SUCCEEDED, f"{m.RunState.Name(run.state)}: {run.message}"
    done = counted(federation, run)  # clean, first and second of each unit; one split, one report
    assert {task: count for task, count in done.items() if count != 1} == {}
    assert len(done) == count * 3 + 2
    for name, cluster in federation.clusters.items():
        held = {each.run for each in cluster.core.runs()}
        wanted = {run.line or run.name} if name in run.fragments else set()
        assert held == wanted, f"{name} has {held} of a run of {sorted(run.fragments)}"
    return run


def counted(federation: Federation, run: m.Run) -> Counter[bytes]:
    """How often each task was done in the fragments that count; what was made again counts once."""
    done: Counter[bytes] = Counter()
    for name, cluster in federation.clusters.items():
        epoch: dict[str, int] = {}  # by line
        here: dict[str, set[bytes]] = {}
        for raw in cluster.log:
            record = records.decode(raw)
            if isinstance(record, FragmentTaken):
                fragment = m.Fragment.FromString(record.fragment)
                epoch[fragment.run], here[fragment.run] = fragment.epoch, set()
            elif isinstance(record, Committed | Recalled | Reused):
                here[record.run.run].add(record.task)
        line = run.line or run.name
        if name in run.fragments and run.fragments[name].epoch == epoch.get(line):
            done.update(here[line])
    return done


@few
@given(mishaps, st.sampled_from((0.2, 1.0, 4.0)))
@example([Mishap(2.0, "fog1", 8.0)], 1.0)
@example([Mishap(2.0, "fog1", 60.0), Mishap(9.0, "fog2", 60.0), Mishap(12.0, "hub", 0.0)], 1.0)
@example([Mishap(4.0, "edge", 30.0), Mishap(4.0, "fog1", 8.0)], 1.0)
def test_a_run_succeeds_exactly_once_whoever_is_lost_and_comes_back(mishaps: list[Mishap], seconds: float) -> None:
    check(ran(mishaps, seconds))


@few
@given(mishaps, st.sampled_from((0.2, 1.0)))
def test_so_it_does_where_clusters_stop_by_themselves(mishaps: list[Mishap], seconds: float) -> None:
    check(ran(mishaps, seconds, stop="3s"))


@few
@given(st.lists(st.one_of(cuts, deaths, disks, disks), min_size=1, max_size=6), st.sampled_from((0.2, 1.0, 4.0)))
@example([Mishap(2.0, "fog1", 60.0), Mishap(3.0, "fog1", 0.0, True)], 1.0)
@example([Mishap(4.0, "edge", 0.0, True), Mishap(4.2, "cloud1", 0.0, True)], 1.0)
def test_so_it_does_where_agents_lose_their_logs(mishaps: list[Mishap], seconds: float) -> None:
    check(ran(mishaps, seconds))


@few
@given(
    st.lists(st.one_of(cuts, cuts, deaths, disks), min_size=1, max_size=6),
    st.sampled_from((0.2, 1.0, 4.0)),
    st.sampled_from(("original", "furthest")),
    st.sampled_from(("0s", "20s")),
)
@example([Mishap(2.0, "fog1", 8.0)], 1.0, "original", "0s")
@example([Mishap(2.0, "fog1", 60.0), Mishap(9.0, "fog2", 12.0), Mishap(12.0, "hub", 0.0)], 1.0, "furthest", "0s")
def test_so_it_does_where_the_original_may_come_back(
    mishaps: list[Mishap], seconds: float, keep: str, stop: str
) -> None:
    check(ran(mishaps, seconds, stop, keep))


def test_the_original_counts_once_the_lost_cluster_is_back_and_the_other_line_is_gone() -> None:
    run = check(ran([Mishap(6.0, "fog1", 8.0)], 4.0, keep="original"))
    assert (run.line, run.plan_revision, list(run.replaced)) == ("", 2, [])
    assert "fog1" in run.fragments


@pytest.mark.parametrize("keep", ["original", "furthest"])
def test_the_replacement_is_the_result_if_it_ends_before_the_lost_cluster_is_back(keep: str) -> None:
    run = check(ran([Mishap(6.0, "fog1", 60.0)], keep=keep))
    assert (run.line, run.plan_revision, list(run.replaced)) == ("r.-2", 2, ["fog1"])
    assert "fog1" not in run.fragments


@pytest.mark.parametrize(("stalled", "line"), [(False, ""), (True, "r.-2")])
def test_the_line_that_is_further_counts(stalled: bool, line: str) -> None:
    """A cluster that works on behind a broken link keeps its lead; one that stood still is overtaken."""
    mishap = Mishap(6.0, "fog1", 90.0 if stalled else 6.5, stalled=stalled)
    run = check(ran([mishap], 4.0, keep="furthest", count=24), 24)
    assert run.line == line
    assert run.ended_at > mishap.at + mishap.seconds, "a line had ended before there was something to choose"


def test_a_lost_cluster_is_replaced_and_what_others_have_done_is_not_done_again() -> None:
    federation = ran([Mishap(6.0, "fog1", 60.0)])
    run = check(federation)
    assert (run.plan_revision, list(run.replaced)) == (2, ["fog1"])
    recalled = [
        name
        for name, cluster in federation.clusters.items()
        for raw in cluster.log
        if isinstance(records.decode(raw), Recalled | Reused)
    ]
    assert {"edge"} <= set(recalled)


def test_a_short_cut_replaces_nobody() -> None:
    assert check(ran([Mishap(2.0, "fog1", 4.0)])).plan_revision == 1
