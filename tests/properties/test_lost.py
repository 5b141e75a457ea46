"""Hub and coordinators together: links are cut for any time, clusters are replaced and come back, and every run ends.

The production planner, runs and coordinators on virtual time. Whatever is cut, dies and returns when it will, the run
succeeds, and in the line of history that counts each task was done exactly once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator import records
from simulator.federation import Federation, Job

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
  policy: {disconnect: {lost_after: 5s, replace: true, stop_after: STOP}}
"""
TASKS = 12 * 3 + 2  # clean, first and second of each unit; one split, one report
CLUSTERS = ("edge", "fog1", "fog2", "fog3", "cloud1", "cloud2")


@dataclass(frozen=True)
class Mishap:
    """At that second: the hub's link to a cluster is cut for so long, or an agent (seconds = 0) or the hub dies.

    `disk`: the agent dies with its log.
    """

    at: float
    cluster: str
    seconds: float
    disk: bool = False


times = st.floats(0.0, 30.0)
cuts = st.builds(Mishap, times, st.sampled_from(CLUSTERS), st.floats(0.5, 60.0))
deaths = st.builds(Mishap, times, st.sampled_from((*CLUSTERS, "hub")), st.just(0.0))
disks = st.builds(Mishap, times, st.sampled_from(CLUSTERS), st.just(0.0), st.just(True))
mishaps = st.lists(st.one_of(cuts, cuts, deaths), min_size=1, max_size=6)


def happen(federation: Federation, mishap: Mishap) -> None:
    if mishap.seconds:
        federation.cut(mishap.cluster, mishap.seconds)
    elif mishap.disk:
        if not federation.ended:  # else what was done can't be counted
            federation.lose_log(mishap.cluster)
    elif mishap.cluster == "hub":
        federation.crash_hub()
    else:
        federation.crash(mishap.cluster)


def ran(mishaps: list[Mishap], seconds: float = 1.0, stop: str = "0s") -> Federation:
    """A run among these mishaps, until all is over and everybody was heard again."""
    job = Job.written(JOB.replace("STOP", stop), dict.fromkeys(("clean", "first", "second", "report"), seconds))
    federation = Federation.of(job.request.topology)
    federation.clock.run(1.0)
    federation.submit("r", job)
    begun = federation.clock.now
    for mishap in mishaps:
        federation.clock.at(begun + mishap.at, lambda mishap=mishap: happen(federation, mishap))  # type: ignore[misc]
    federation.clock.run(begun + 1_000.0, lambda: federation.ended)
    federation.clock.run(federation.clock.now + 200.0)
    return federation


def check(federation: Federation) -> m.Run:
    run = federation.runs["default", "r"]
    assert run.state == m.RUN_STATE_SUCCEEDED, f"{m.RunState.Name(run.state)}: {run.message}"
    done = counted(federation, run)
    assert {task: count for task, count in done.items() if count != 1} == {}
    assert len(done) == TASKS
    for name, cluster in federation.clusters.items():
        held = {each.run for each in cluster.core.runs()}
        assert bool(held) == (name in run.fragments), f"{name} has {held} of a run of {sorted(run.fragments)}"
    return run


def counted(federation: Federation, run: m.Run) -> Counter[bytes]:
    """How often each task was done in the fragments that count; what was made again counts once."""
    done: Counter[bytes] = Counter()
    for name, cluster in federation.clusters.items():
        epoch = 0
        here: set[bytes] = set()
        for raw in cluster.log:
            record = records.decode(raw)
            if isinstance(record, records.FragmentTaken):
                epoch = m.Fragment.FromString(record.fragment).epoch
                here.clear()
            elif isinstance(record, records.Committed | records.Recalled):
                here.add(record.task)
        if name in run.fragments and run.fragments[name].epoch == epoch:
            done.update(here)
    return done


few = settings(deadline=None, max_examples=30)


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


def test_a_lost_cluster_is_replaced_and_what_others_have_done_is_not_done_again() -> None:
    federation = ran([Mishap(6.0, "fog1", 60.0)])
    run = check(federation)
    assert (run.plan_revision, list(run.replaced)) == (2, ["fog1"])
    recalled = [
        name
        for name, cluster in federation.clusters.items()
        for raw in cluster.log
        if isinstance(records.decode(raw), records.Recalled)
    ]
    assert {"edge"} <= set(recalled)


def test_a_short_cut_replaces_nobody() -> None:
    assert check(ran([Mishap(2.0, "fog1", 4.0)])).plan_revision == 1
