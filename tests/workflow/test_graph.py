"""The shape of a workflow."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.model import Disconnect
from workflow import graph
from workflow.checks import workflow_warnings
from workflow.model import Step, StepUse, Workflow


def workflow(edges: dict[str, list[str]], **spec: Any) -> Workflow:
    """Steps by name with the names that they read from; ports do not matter here."""
    steps = [
        {"name": name, "use": "s@1", "in": {f"p{index}": f"{source}.out" for index, source in enumerate(sources)}}
        for name, sources in edges.items()
    ]
    return Workflow.model_validate({"metadata": {"name": "w"}, "spec": {"steps": steps, **spec}})


DIAMOND = {"d": ["b", "c"], "a": ["inputs"], "b": ["a"], "c": ["a", "a"], "alone": []}


def test_each_step_comes_after_those_it_reads_from_and_else_in_the_order_of_the_file() -> None:
    assert graph.topological_order(workflow(DIAMOND)) == ("a", "alone", "b", "c", "d")


def test_neighbours_are_told_once_and_without_the_workflows_inputs() -> None:
    shape = workflow(DIAMOND)
    assert graph.predecessors(shape) == {"d": ("b", "c"), "a": (), "b": ("a",), "c": ("a",), "alone": ()}
    assert graph.successors(shape)["a"] == ("b", "c")
    assert graph.upstream(shape, "d") == {"a", "b", "c"}
    assert graph.downstream(shape, "a") == {"b", "c", "d"}
    assert graph.inputs_of(shape, "d") == {"out"}
    assert graph.inputs_of(shape, "alone") == frozenset()


def test_a_cycle_is_told_by_its_steps_in_the_direction_of_the_data() -> None:
    shape = workflow({"a": ["inputs", "c"], "b": ["a"], "c": ["b"], "d": ["c"]})
    cycle = graph.find_cycle(shape)
    assert cycle[0] == cycle[-1] and set(cycle) == {"a", "b", "c"}
    assert all(reader in graph.successors(shape)[source] for source, reader in itertools.pairwise(cycle))
    with pytest.raises(ValueError, match="form a cycle: "):
        graph.topological_order(shape)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3), min_size=1))
def test_every_graph_has_an_order_or_a_cycle(edges: dict[str, list[str]]) -> None:
    shape = workflow(edges)
    if graph.find_cycle(shape):
        return
    order = graph.topological_order(shape)
    assert sorted(order) == sorted(edges)
    for name in edges:
        assert all(order.index(before) < order.index(name) for before in graph.upstream(shape, name))


def test_an_input_of_the_workflow_is_a_producer_with_one_port() -> None:
    use = StepUse.model_validate({"name": "a", "use": "s@1", "in": {"rows": "inputs.flights", "more": "b.rows"}})
    assert graph.producers(use.inputs["rows"]) == (("inputs.flights", "out"),)
    assert graph.producers(use.inputs["more"]) == (("b", "rows"),)


def test_the_port_that_is_not_paired_drives() -> None:
    same = {"from": "inputs.w", "same": "cluster"}
    use = StepUse.model_validate({"name": "a", "use": "s@1", "in": {"weather": same, "rows": "inputs.f"}})
    assert graph.driving_port(use) == "rows"
    gathers = StepUse.model_validate({"name": "a", "use": "s@1", "in": {"x": {"from": "inputs.f", "gather": "all"}}})
    assert graph.driving_port(gathers) is None


def test_what_the_workflow_says_lies_over_what_the_step_says() -> None:
    step = Step.model_validate(
        {
            "metadata": {"name": "s", "version": "1"},
            "spec": {
                "run": {"python": "a:b"},
                "retry": {"attempts": 7, "backoff": "3s"},
                "pool": {"max": 4},
                "timeout": "1m",
            },
        }
    )
    use = StepUse.model_validate({"name": "a", "use": "s@1", "retry": {"attempts": 3}, "pool": {"min": 1}})
    retry, pool = graph.retry(use, step), graph.pool(use, step)
    assert (retry.attempts, retry.backoff, retry.factor) == (3, 3.0, 2.0)
    assert (pool.min, pool.max, pool.idle) == (1, 4, 60.0)
    assert graph.timeout(use, step).run == 60.0
    assert graph.resources(use, step).cpus == 1.0


def test_what_the_workflow_says_of_disconnection_lies_over_the_clusters_words() -> None:
    shape = workflow({"a": []}, policy={"disconnect": {"replace": True}})
    policy = graph.disconnect(shape, Disconnect.model_validate({"lost_after": "1m", "replace": False}))
    assert (policy.lost_after, policy.replace, policy.keep) == (60.0, True, "replacement")


def test_what_nobody_uses_is_warned_of() -> None:
    shape = workflow(
        {"a": ["inputs"], "b": ["a"]},
        parameters={"late": {"type": "integer"}},
        inputs={"out": {"dataset": "d"}, "more": {"dataset": "d"}},
    )
    warned = workflow_warnings(shape)
    assert [problem.field for problem in warned] == ["spec.parameters.late", "spec.inputs.more", "spec.steps[1]"]
    assert {problem.severity for problem in warned} == {"warning"}
