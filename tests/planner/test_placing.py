"""Filters say why, a step without a cluster is a problem that lists them, shares follow data, room and distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.planner.base import Measured, World
from control_plane.planner.core import plan
from tests.planner.conftest import Case
from wire.errors import ProblemError

TOPOLOGY = """
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: a, tier: edge}, {name: b, tier: edge}, {name: c, tier: cloud}, {name: island, tier: cloud}]
  clusters:
    - {name: edge-a, zone: a, nodes: [{name: n1, cpus: 2, memory: 1Gi}], labels: {site: north}}
    - {name: edge-b, zone: b, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}
    - name: cloud
      zone: c
      nodes: [{name: n1, cpus: 8, memory: 8Gi}, {name: n2, cpus: 8, memory: 8Gi}]
      labels: {site: north}
    - {name: tainted, zone: c, nodes: [{name: n1, cpus: 8}], taints: [{key: gpu, value: "yes"}]}
    - {name: remote, zone: island, nodes: [{name: n1, cpus: 8}]}
  links:
    - {between: [a, c], bandwidth: 10Mbit, latency: 10ms, dial: a}
    - {between: [b, c], bandwidth: 10Mbit, latency: 10ms, dial: b}
  datasets:
    - name: rows
      parts: [{at: edge-a, path: a.csv, size: 6000000}, {at: edge-b, path: b.csv, size: 2000000}]
    - name: names
      replicas: [{at: edge-a, path: n.csv}, {at: cloud, path: n.csv}, {at: edge-b, path: n.csv}]
    - name: only-a
      parts: [{at: edge-a, path: only.csv}]
---
"""
STEP = """
kind: Step
metadata: {name: s, version: "1"}
spec: {run: {command: [cat, "{in.x}"]}, inputs: {x: {format: csv}}, outputs: {y: {format: csv}}}
---
kind: Step
metadata: {name: pair, version: "1"}
spec: {run: {command: [cat]}, inputs: {x: {}, names: {}}, outputs: {y: {optional: true}}}
---
"""
CaseOf = Callable[[str], Case]


def workflow(steps: str, inputs: str = "rows: {dataset: rows}", outputs: str = "") -> str:
    return f"""
kind: Workflow
metadata: {{name: w}}
spec:
  inputs: {{{inputs}}}
  steps: {steps}
  outputs: {{{outputs}}}
"""


@pytest.mark.parametrize(
    ("extra", "cluster", "name", "words"),
    [
        ("place: {tier: cloud}", "edge-a", "tier", "is of tier edge, not cloud"),
        ("place: {clusters: [cloud]}", "edge-a", "place", "is not among the clusters wanted: cloud"),
        ("place: {zones: [c]}", "edge-a", "place", "is in zone a, not in c"),
        ("place: {labels: {site: north}}", "edge-b", "labels", "has no label site, not site=north"),
        ("place: {labels: {site: south}}", "edge-a", "labels", "has the label site=north, not site=south"),
        ("", "tainted", "taints", "has the taint gpu=yes:NoSchedule, which the step does not tolerate"),
        ("", "remote", "reachability", "can't be reached from edge-a, edge-b"),
        ("resources: {cpus: 4}", "edge-a", "capacity", "has no node with 4 CPUs (its largest: 2 CPUs/1Gi)"),
        ("resources: {memory: 2Gi}", "edge-b", "capacity", "has no node with 1 CPUs and 2Gi"),
    ],
)
def test_a_filter_tells_its_reason(case: CaseOf, extra: str, cluster: str, name: str, words: str) -> None:
    comma = ", " if extra else ""
    text = TOPOLOGY + STEP + workflow(f"[{{name: one, use: s@1, in: {{x: inputs.rows}}{comma}{extra}}}]")
    try:
        planned = plan(case(text).request())
        step = next(each for each in planned.plan.steps if each.step == "one")
        found = {each: verdict for verdict in step.filtered for each in verdict.clusters}
        assert found[cluster].filter == name
        assert words in found[cluster].reason
    except ProblemError as error:
        assert f"{cluster} {words}" in str(error)


def test_a_service_needs_a_node_with_room_for_its_whole_process_though_a_slot_would_fit(case: CaseOf) -> None:
    step = STEP.replace("command: [", "slots: 4, service: [", 1)
    assert step != STEP
    wanting = workflow(
        "[{name: one, use: s@1, in: {x: inputs.rows}, resources: {cpus: 4, memory: 4Gi}, place: {tier: edge}}]"
    )
    with pytest.raises(ProblemError, match="has no node with 4 CPUs and 4Gi"):
        plan(case(TOPOLOGY + step + wanting).request())
    fitting = workflow("[{name: one, use: s@1, in: {x: inputs.rows}, resources: {cpus: 2}}]")
    planned = plan(case(TOPOLOGY + step + fitting).request())
    [one] = [each for fragment in planned.fragments.values() for each in fragment.steps if each.name == "one"][:1]
    assert (one.resources.cpus, one.execution.service.cpus) == (0.5, 2)


def test_who_is_cut_off_since_its_own_cluster_is_cordoned_hears_of_the_cordon(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.rows}, place: {tier: edge}}]")
    request = case(text).request()
    request.clusters["edge-a"].taints.append(cp.ClusterTaint(key="cordoned", effect="NoSchedule"))
    with pytest.raises(ProblemError) as caught:
        plan(request)
    [problem] = caught.value.problems
    assert problem.message == (
        "units made on edge-a can't get to a cluster that may execute one (edge-b): no link is declared; "
        "edge-a itself is cordoned: nothing new is planned there until 'bdw-fed uncordon'"
    )
    request.clusters["edge-a"].taints[0].CopyFrom(cp.ClusterTaint(key="broken", effect="NoExecute"))
    with pytest.raises(ProblemError, match="edge-a itself has the taint broken:NoExecute, which the step does not"):
        plan(request)


def test_a_tolerated_taint_is_no_hindrance(case: CaseOf) -> None:
    tolerant = "place: {tolerate: [{key: gpu}], clusters: [tainted]}"
    planned = plan(
        case(TOPOLOGY + STEP + workflow(f"[{{name: one, use: s@1, in: {{x: inputs.rows}}, {tolerant}}}]")).request()
    )
    assert "tainted" in planned.fragments


def test_an_agent_that_is_away_is_left_out_where_there_is_a_choice(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.rows}}]")
    planned = plan(case(text).request({"cloud": "unknown"}))
    step = next(each for each in planned.plan.steps if each.step == "one")
    assert {each: verdict.filter for verdict in step.filtered for each in verdict.clusters}["cloud"] == "ready"
    assert {share.cluster for share in step.shares} == {"edge-a", "edge-b"}


def test_an_agent_that_is_silent_for_a_moment_is_only_the_last_choice(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: {from: inputs.rows, gather: all}}}]")
    assert "cloud" in plan(case(text).request()).fragments
    tolerant = text.replace("gather: all}}", "gather: all}}, place: {tolerate: [{key: gpu}]}")
    planned = plan(case(tolerant).request({"cloud": "not-ready"}))
    step = next(each for each in planned.plan.steps if each.step == "one")
    assert [share.cluster for share in step.shares] == ["tainted"]
    assert [score.cluster for score in step.scores if score.name == "ready"] == ["cloud"]


def test_a_step_without_a_cluster_is_a_problem_that_lists_every_reason(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.rows}, place: {tier: fog}}]")
    with pytest.raises(ProblemError) as caught:
        plan(case(text).request())
    (problem,) = caught.value.problems
    assert problem.field == "spec.steps.one"
    for cluster in ("edge-a", "edge-b", "cloud", "tainted", "remote"):
        assert f"{cluster} is of tier" in problem.message
    assert problem.remedy


def test_all_steps_without_a_cluster_are_told_at_once(case: CaseOf) -> None:
    steps = """
    - {name: one, use: s@1, in: {x: inputs.rows}, place: {tier: fog}}
    - {name: two, use: s@1, in: {x: one.y}, place: {tier: fog}}
"""
    with pytest.raises(ProblemError) as caught:
        plan(case(TOPOLOGY + STEP + workflow(steps)).request())
    assert [problem.field for problem in caught.value.problems] == ["spec.steps.one", "spec.steps.two"]


def test_a_step_bound_to_data_must_be_allowed_wherever_the_data_lies(case: CaseOf) -> None:
    steps = """
    - name: one
      use: pair@1
      in: {x: inputs.rows, names: {from: inputs.names, same: cluster}}
      place: {clusters: [edge-a]}
"""
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}, names: {dataset: names}")
    with pytest.raises(ProblemError, match=r"must run where its data lies.*edge-b is not among"):
        plan(case(text).request())


def test_data_to_pair_with_must_lie_wherever_the_driving_data_does(case: CaseOf) -> None:
    steps = "[{name: one, use: pair@1, in: {x: inputs.rows, names: {from: inputs.other, same: cluster}}}]"
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}, other: {dataset: only-a}")
    with pytest.raises(ProblemError, match=r"edge-b has data for this step, but none that inputs.other gives"):
        plan(case(text).request())


def test_each_cluster_opens_its_own_copy_of_what_it_pairs_with(case: CaseOf) -> None:
    steps = "[{name: one, use: pair@1, in: {x: inputs.rows, names: {from: inputs.names, same: cluster}}}]"
    planned = plan(case(TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}, names: {dataset: names}")).request())
    opened = {(cluster, part.step, part.index) for cluster, each in planned.fragments.items() for part in each.sources}
    assert opened == {
        ("edge-a", "inputs.rows", 0),
        ("edge-b", "inputs.rows", 1),
        ("edge-a", "inputs.names", 0),
        ("edge-b", "inputs.names", 2),
    }


def test_of_replicas_that_are_read_once_a_ready_one_where_the_reader_may_run_is_chosen(case: CaseOf) -> None:
    text = (
        TOPOLOGY
        + STEP
        + workflow("[{name: one, use: s@1, in: {x: inputs.names}, place: {tier: cloud}}]", "names: {dataset: names}")
    )
    planned = plan(case(text).request())
    assert [c for c, each in planned.fragments.items() for _ in each.sources] == ["cloud"]
    assert not planned.plan.transfers


def test_a_copy_that_is_read_in_place_of_another_one_is_the_same_part(case: CaseOf) -> None:
    """So that a run which begins again without a cluster knows what it has made of that one's copy."""
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.names}}]", "names: {dataset: names}")
    request = case(text).request()
    planned = plan(request)
    ((first, source),) = [(c, part) for c, each in planned.fragments.items() for part in each.sources]
    lost = {**request.clusters, first: cp.ClusterStatus(name=first, state="unknown")}
    planned = plan(replace(request, clusters=lost, revision=2))
    ((second, other),) = [(c, part) for c, each in planned.fragments.items() for part in each.sources]
    assert second != first
    assert (other.step, other.index) == (source.step, source.index)


def test_units_stay_where_they_are_as_long_as_there_is_room(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: {from: inputs.rows, split: {count: 10}}}}]")
    planned = plan(case(text).request())
    step = next(each for each in planned.plan.steps if each.step == "one")
    assert step.expected_units == 20
    shares = {share.cluster: share.share for share in step.shares}
    assert sum(shares.values()) == pytest.approx(1.0)
    # 2 of 20 slots are on each edge: twice that may stay there of the 75 % and 25 % of the data.
    assert shares["edge-a"] == pytest.approx(0.2, abs=0.05)
    assert shares["edge-b"] == pytest.approx(0.2, abs=0.05)
    assert shares["cloud"] > 0.5
    moved = sum(transfer.bytes for transfer in planned.plan.transfers)
    assert moved == pytest.approx(8e6 * shares["cloud"])


def test_a_cluster_is_told_by_what_its_agent_sees_where_that_differs_from_the_declaration(case: CaseOf) -> None:
    chosen = case(TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.rows}, resources: {cpus: 4}}]"))
    request = chosen.request()
    request.clusters["edge-a"].nodes.append(cp.NodeStatus(name="big", ready=True, cpus=16))  # type: ignore[index]
    planned = plan(request)
    step = next(each for each in planned.plan.steps if each.step == "one")
    assert "edge-a" in {share.cluster for share in step.shares}


def test_a_cordoned_node_counts_for_no_slot_while_there_is_another(case: CaseOf) -> None:
    request = case(TOPOLOGY + STEP + workflow("[{name: one, use: s@1, in: {x: inputs.rows}}]")).request()
    status = request.clusters["edge-a"]  # type: ignore[index]
    status.nodes.append(cp.NodeStatus(name="big", ready=True, cpus=16, cordoned=True))
    world = World(request.topology, request.clusters)  # type: ignore[arg-type]
    assert world.slots("edge-a", 1.0, 0, 0) == 16, "it may be uncordoned before the run gets there"
    status.nodes.append(cp.NodeStatus(name="small", ready=True, cpus=2))
    assert world.slots("edge-a", 1.0, 0, 0) == 2


def test_pairing_by_cluster_after_gathering_is_refused(case: CaseOf) -> None:
    steps = """
    - {name: all, use: s@1, in: {x: {from: inputs.rows, gather: all}}}
    - {name: one, use: pair@1, in: {x: all.y, names: {from: inputs.names, same: cluster}}}
"""
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}, names: {dataset: names}")
    with pytest.raises(ProblemError, match="takes units where the data lies that they stem from"):
        plan(case(text).request())


def test_what_is_to_stay_can_not_follow_what_gathers(case: CaseOf) -> None:
    steps = """
    - {name: all, use: s@1, in: {x: {from: inputs.rows, gather: all}}}
    - {name: one, use: s@1, in: {x: all.y}, place: {stay: true}}
"""
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}")
    with pytest.raises(ProblemError, match="one takes units where the data lies"):
        plan(case(text).request())


def test_a_step_that_is_to_stay_is_pinned_and_hears_what_was_measured_and_preferred(case: CaseOf) -> None:
    steps = """
    - {name: one, use: s@1, in: {x: inputs.rows}, place: {stay: true}}
    - name: two
      use: s@1
      in: {x: one.y}
      place: {prefer: distance, tolerate: [{key: removed}, {key: busy, seconds: 90s}]}
"""
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}")
    planned = plan(case(text).request(measured={"s@1": Measured(None, 0.5)}))
    one, two = (next(each for each in planned.steps if each.name == name) for name in ("one", "two"))
    assert one.pinned
    assert not two.pinned
    assert (one.prefer, two.prefer) == ("finish", "distance")
    assert (list(two.tolerates), dict(two.tolerates_for)) == (["removed"], {"busy": 90.0})
    assert {each.cluster: each.mean_seconds for each in two.measured} == {share.cluster: 0.5 for share in two.executors}


def test_what_clusters_have_measured_is_planned_with(case: CaseOf) -> None:
    text = TOPOLOGY + STEP + workflow("\n    - {name: one, use: s@1, in: {x: inputs.rows}}", "rows: {dataset: rows}")
    request = case(text).request()
    before = plan(request).plan
    clusters = {}
    for name, status in request.clusters.items():
        clusters[name] = type(status)()
        clusters[name].CopyFrom(status)
        clusters[name].steps.add(definition="s@1", cluster=name, fixed_seconds=2.0, mean_seconds=2.0, weight=9)
    after = plan(replace(request, clusters=clusters)).plan
    step = next(each for each in after.steps if each.step == "one")
    assert not next(each for each in before.steps if each.step == "one").task_seconds
    assert step.task_seconds == dict.fromkeys((share.cluster for share in step.shares), 2.0)
    assert after.expected_seconds >= before.expected_seconds + 2.0


def test_the_same_copies_read_once_and_by_cluster_are_refused(case: CaseOf) -> None:
    steps = """
    - {name: one, use: pair@1, in: {x: inputs.rows, names: {from: inputs.names, same: cluster}}}
    - {name: two, use: s@1, in: {x: inputs.names}}
"""
    text = TOPOLOGY + STEP + workflow(steps, "rows: {dataset: rows}, names: {dataset: names}")
    with pytest.raises(ProblemError, match="and once by another step"):
        plan(case(text).request())


def test_results_are_taken_wherever_their_step_may_run_though_the_plan_expects_none_there(
    case: Callable[[str], Case],
) -> None:
    objects = case(RESULTS_ANYWHERE)
    planned = plan(objects.request()).plan
    steps = {step.step: step for step in planned.steps}
    work = {share.cluster: share.share for share in steps["work"].shares}
    assert 0.0 in work.values(), "a cluster that gets units only if the others can't take them"
    assert {share.cluster for share in steps["outputs.rows"].shares} == set(work)


RESULTS_ANYWHERE = """
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: here, tier: edge}]
  clusters:
    - {name: big, zone: here, runtime: process, nodes: [{name: n1, cpus: 4, memory: 4Gi}]}
    - {name: small, zone: here, runtime: process, nodes: [{name: n1, cpus: 1, memory: 4Gi}]}
  datasets: [{name: rows, parts: [{at: big, path: rows.csv, size: 1MiB}]}]
---
kind: Step
metadata: {name: work, version: "1"}
spec: {run: {python: "code:main"}, inputs: {rows: {}}, outputs: {rows: {}}}
---
kind: Workflow
metadata: {name: w}
spec:
  inputs: {rows: {dataset: rows}}
  steps: [{name: work, use: work@1, in: {rows: {from: inputs.rows, split: {count: 8}}}}]
  outputs: {rows: work.rows}
"""
