"""Conditions, loops and workflows used as steps: what plain workflow comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.base import path_part
from workflow.canonical import canonical_json, from_canonical
from workflow.checks import check_workflow
from workflow.flow.unfold import PlainPositions, Unfolded, UnfoldingError, folds, unfold
from workflow.model import Step, Workflow
from workflow.parameters import resolve, resolve_step


def step(name: str, ports: Mapping[str, Any] | None = None, **parameters: Any) -> Step:
    return Step.model_validate(
        {
            "metadata": {"name": name, "version": "1"},
            "spec": {
                "run": {"python": "m:f"},
                "inputs": {port: {} for port in ("rows",)} if ports is None else ports,
                "outputs": {"rows": {}},
                "parameters": parameters,
            },
        }
    )


STEPS = {
    each.reference: each
    for each in (
        step("s", city={"type": "string", "default": ""}, year={"type": "integer", "default": 0}),
        step("make", {}),
        step("merge", {"rows": {}, "names": {"optional": True}}),
    )
}


def workflow(name: str, steps: list[dict[str, Any]], **spec: Any) -> Workflow:
    return Workflow.model_validate({"metadata": {"name": name}, "spec": {"steps": steps, **spec}})


def unfolded(whole: Workflow, *others: Workflow, **given: Any) -> Unfolded:
    """Checked before and after, as the hub does it."""
    by_name = {each.metadata.name: each for each in others}
    assert check_workflow(whole, STEPS, workflows=by_name) == []
    done = unfold(whole, resolve(given, whole.spec.parameters), STEPS, by_name)
    assert not folds(done.workflow)
    names = PlainPositions(uses=tuple(use.name for use in done.workflow.spec.steps))
    assert check_workflow(done.workflow, STEPS, None, names) == []
    return done


def reads(done: Unfolded) -> dict[str, dict[str, tuple[str, ...]]]:
    """Step → port → what it reads."""
    return {
        use.name: {port: binding.sources for port, binding in use.inputs.items()} for use in done.workflow.spec.steps
    }


MODE = {"mode": {"type": "string", "default": "full"}}
INPUT = {"flights": {"dataset": "flights"}}


def conditional(port: dict[str, Any] | None = None) -> Workflow:
    return workflow(
        "w",
        [
            {"name": "a", "use": "s@1", "in": {"rows": "inputs.flights"}},
            {"name": "extra", "use": "s@1", "when": "param.mode == 'full'", "in": {"rows": "a.rows"}},
            {"name": "after", "use": "s@1", "in": {"rows": "extra.rows"}},
            {"name": "end", "use": "merge@1", "in": port or {"rows": "a.rows"}},
        ],
        parameters=MODE,
        inputs=INPUT,
        outputs={"x": "after.rows", "y": {"from": "a.rows", "also": ["extra.rows"]}, "z": "end.rows"},
    )


def test_a_step_whose_condition_holds_is_there_as_if_it_had_none() -> None:
    done = unfolded(conditional())
    assert set(reads(done)) == {"a", "extra", "after", "end"}
    assert done.skipped == {}
    assert done.workflow.spec.outputs["y"].sources == ("a.rows", "extra.rows")


def test_what_only_depends_on_a_skipped_step_is_skipped_with_it_and_the_reason_is_told() -> None:
    done = unfolded(conditional(), mode="quick")
    assert list(reads(done)) == ["a", "end"]
    assert done.skipped == {
        "extra": "when: param.mode == 'full'",
        "after": "what its input rows reads is skipped: extra.rows",
        "outputs.x": "what it reads is skipped: after.rows",
    }
    assert done.workflow.spec.outputs["y"].sources == ("a.rows",)


def test_an_optional_input_that_reads_from_a_skipped_step_is_left_unconnected() -> None:
    gathering = {"rows": {"from": "a.rows", "gather": "all"}, "names": {"from": "after.rows", "gather": "all"}}
    assert reads(unfolded(conditional(gathering), mode="quick"))["end"] == {"rows": ("a.rows",)}
    assert reads(unfolded(conditional(gathering)))["end"]["names"] == ("after.rows",)


def test_a_step_is_skipped_when_what_drives_it_is_even_if_that_is_optional() -> None:
    driven = {"rows": {"from": "a.rows", "same": "cluster"}, "names": "after.rows"}
    assert "end" in unfolded(conditional(driven), mode="quick").skipped


def test_a_run_of_nothing_is_refused() -> None:
    whole = workflow("w", [{"name": "a", "use": "make@1", "when": "param.mode == 'x'"}], parameters=MODE)
    with pytest.raises(UnfoldingError, match="every step is skipped"):
        unfolded(whole)


def loop(for_each: Any, **more: Any) -> Workflow:
    return workflow(
        "w",
        [
            {"name": "a", "use": "s@1", "for_each": for_each, "in": {"rows": "inputs.flights"}, **more},
            {"name": "b", "use": "merge@1", "in": {"rows": "a.rows"}},
        ],
        parameters={"cities": {"type": "array", "default": ["x", "y"]}},
        inputs=INPUT,
        outputs={"out": "a.rows"},
    )


def given_to(done: Unfolded) -> dict[str, Mapping[str, Any]]:
    """Step → its parameters, as they hold in the end."""
    return {
        use.name: resolve_step(use, STEPS[use.use].spec.parameters, {})
        for use in done.workflow.spec.steps
        if use.use == "s@1"
    }


def test_a_loop_becomes_a_use_for_each_item_and_its_readers_read_from_all_of_them() -> None:
    done = unfolded(loop({"city": ["ny", "la"]}, parameters={"city": "{item.city}"}))
    assert given_to(done) == {"a-0": {"city": "ny", "year": 0}, "a-1": {"city": "la", "year": 0}}
    assert reads(done)["b"] == {"rows": ("a-0.rows", "a-1.rows")}
    assert done.workflow.spec.outputs["out"].sources == ("a-0.rows", "a-1.rows")


def test_items_come_from_a_list_a_parameter_or_a_sequence() -> None:
    by_parameter = loop({"city": {"from": "param.cities"}}, parameters={"city": "{item.city}"})
    assert [each["city"] for each in given_to(unfolded(by_parameter)).values()] == ["x", "y"]
    assert [each["city"] for each in given_to(unfolded(by_parameter, cities=["z"])).values()] == ["z"]
    counted = loop({"year": {"sequence": {"from": 1, "to": 10, "step": 4}}}, parameters={"year": "{item.year}"})
    assert [each["year"] for each in given_to(unfolded(counted)).values()] == [1, 5, 9]
    down = loop({"year": {"sequence": {"from": 3, "to": 2, "step": -1}}}, parameters={"year": "{item.year}"})
    assert [each["year"] for each in given_to(unfolded(down)).values()] == [3, 2]


def test_several_names_make_every_combination_and_a_condition_picks_among_them() -> None:
    both = {"city": ["ny", "la"], "year": {"sequence": {"from": 1, "to": 2}}}
    filled = {"city": "in {item.city}", "year": "{item.year}"}
    done = unfolded(loop(both, parameters=filled, when="item.city == 'ny' or item.year == 2"))
    assert given_to(done) == {
        "a-0": {"city": "in ny", "year": 1},
        "a-1": {"city": "in ny", "year": 2},
        "a-3": {"city": "in la", "year": 2},
    }
    assert done.skipped == {"a-2": "when: item.city == 'ny' or item.year == 2"}
    assert reads(done)["b"]["rows"] == ("a-0.rows", "a-1.rows", "a-3.rows")


def test_a_loop_over_nothing_is_skipped() -> None:
    done = loop({"city": {"from": "param.cities"}})
    with pytest.raises(UnfoldingError, match="every step is skipped"):
        unfolded(done, cities=[])


def test_an_item_that_its_parameter_can_not_take_is_told_by_the_use_it_is_for() -> None:
    whole = loop({"city": {"from": "param.cities"}}, parameters={"city": "{item.city}"})
    with pytest.raises(UnfoldingError) as wrong:
        unfolded(whole, cities=["ny", 3])
    assert [problem.field for problem in wrong.value.problems] == ["spec.steps.a-1.parameters.city"]


@pytest.mark.parametrize(
    "for_each",
    [
        {"x": {"sequence": {"from": 1, "to": 501}}},
        {"x": {"sequence": {"from": 1, "to": 9**18}}},
        {"x": {"sequence": {"from": 1, "to": 500}}, "y": {"sequence": {"from": 1, "to": 500}}},
    ],
)
def test_how_far_a_loop_goes_is_bounded(for_each: Any) -> None:
    whole = loop(for_each)
    with pytest.raises(UnfoldingError, match="more than 500"):
        unfold(whole, resolve({}, whole.spec.parameters), STEPS, {})


INNER = workflow(
    "inner",
    [
        {
            "name": "one",
            "use": "s@1",
            "in": {"rows": {"from": "inputs.rows", "split": {"count": 3}}},
            "parameters": {"city": "{param.city}"},
        },
        {
            "name": "two",
            "use": "merge@1",
            "in": {"rows": {"from": "one.rows", "gather": "all"}, "names": {"from": "inputs.names", "gather": "all"}},
        },
    ],
    parameters={"city": {"type": "string"}},
    inputs={"rows": {}, "names": {"dataset": "names"}},
    outputs={"table": "two.rows", "parts": "one.rows"},
)


def test_a_workflow_used_as_a_step_becomes_its_own_steps_under_its_name() -> None:
    outer = workflow(
        "outer",
        [
            {"name": "first", "use": "s@1", "in": {"rows": "inputs.flights"}},
            {"name": "sub", "use": "workflow/inner", "in": {"rows": "first.rows"}, "parameters": {"city": "ny"}},
            {"name": "last", "use": "merge@1", "in": {"rows": "sub.table"}},
        ],
        inputs=INPUT,
        outputs={"parts": "sub.parts"},
    )
    done = unfolded(outer, INNER)
    assert reads(done) == {
        "first": {"rows": ("inputs.flights",)},
        "sub:one": {"rows": ("first.rows",)},
        "sub:two": {"rows": ("sub:one.rows",), "names": ("inputs.sub:names",)},
        "last": {"rows": ("sub:two.rows",)},
    }
    assert done.workflow.spec.inputs["sub:names"].dataset == "names"
    assert done.workflow.spec.outputs["parts"].sources == ("sub:one.rows",)
    assert given_to(done)["sub:one"]["city"] == "ny"
    inner = next(use for use in done.workflow.spec.steps if use.name == "sub:one")
    assert inner.inputs["rows"].split is not None, "how its units are cut is said within"


def test_a_workflow_can_be_repeated_nested_and_skipped_as_any_step() -> None:
    middle = workflow(
        "middle",
        [
            {
                "name": "each",
                "use": "workflow/inner",
                "for_each": {"city": {"from": "param.cities"}},
                "in": {"rows": "inputs.rows"},
                "parameters": {"city": "{item.city}"},
                "when": "item.city != 'skip'",
            }
        ],
        parameters={"cities": {"type": "array"}},
        inputs={"rows": {}},
        outputs={"tables": "each.table"},
    )
    outer = workflow(
        "outer",
        [
            {
                "name": "m",
                "use": "workflow/middle",
                "in": {"rows": "inputs.flights"},
                "parameters": {"cities": ["ny", "skip", "{{la}}"]},
            },
            {"name": "end", "use": "merge@1", "in": {"rows": "m.tables"}},
        ],
        inputs=INPUT,
        outputs={"out": "end.rows"},
    )
    done = unfolded(outer, middle, INNER)
    assert reads(done)["end"] == {"rows": ("m:each-0:two.rows", "m:each-2:two.rows")}
    assert done.skipped == {"m:each-1": "when: item.city != 'skip'"}
    assert given_to(done)["m:each-2:one"]["city"] == "{la}", "braces that are meant as they are stay so"


def test_every_name_that_unfolding_makes_can_be_a_part_of_a_path() -> None:
    """The node keeps what a step's tasks write in files below its name."""
    inner = workflow("deep0", [{"name": "x" * 63, "use": "make@1"}])
    nested = [inner]
    for depth in range(1, 5):
        nested.append(workflow(f"deep{depth}", [{"name": "y" * 63, "use": f"workflow/deep{depth - 1}"}]))
    done = unfolded(nested[2], *nested)
    for use in done.workflow.spec.steps:
        assert path_part(f"{use.name}.rows.split")
    with pytest.raises(UnfoldingError, match="is longer than 200 characters"):
        unfolded(nested[4], *nested)


def test_what_reads_a_skipped_step_through_a_workflow_is_skipped_within_it() -> None:
    outer = workflow(
        "outer",
        [
            {"name": "a", "use": "s@1", "when": "param.mode == 'x'", "in": {"rows": "inputs.flights"}},
            {"name": "sub", "use": "workflow/inner", "in": {"rows": "a.rows"}, "parameters": {"city": "c"}},
            {"name": "b", "use": "s@1", "in": {"rows": "inputs.flights"}},
        ],
        inputs=INPUT,
        parameters=MODE,
        outputs={"t": "sub.table", "b": "b.rows"},
    )
    done = unfolded(outer, INNER)
    assert list(reads(done)) == ["b"]
    assert set(done.skipped) == {"a", "sub:one", "sub:two", "outputs.t"}


def test_what_is_written_in_short_is_stored_in_short() -> None:
    whole = loop({"city": ["ny", "la"]})
    assert '"for_each":{"city":["ny","la"]}' in canonical_json(whole)
    assert from_canonical(canonical_json(whole)) == whole


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(
    st.lists(
        st.tuples(st.lists(NAMES, max_size=2), st.sampled_from(["", "when", "loop", "sub"])), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_what_is_left_reads_only_from_what_is_left(shape: list[tuple[list[str], str]], full: bool) -> None:
    steps: list[dict[str, Any]] = []
    for index, (before, kind) in enumerate(shape):
        earlier = sorted({name for name in before if name < "abcd"[index]})
        ports = dict(zip(("rows", "names"), earlier, strict=False))
        sub_inputs = {"rows": f"{earlier[0]}.rows"} if earlier else {"rows": "inputs.flights"}
        plain = {port: {"from": f"{name}.rows", "gather": "all"} for port, name in ports.items()}
        use: dict[str, Any] = {"name": "abcd"[index], "use": "merge@1", "in": plain or {"rows": "inputs.flights"}}
        if kind == "when":
            use["when"] = "param.mode == 'full'"
        elif kind == "loop":
            use["for_each"] = {"x": ["1", "2"]}
        elif kind == "sub":
            use |= {"use": "workflow/wrap", "in": sub_inputs}
        steps.append(use)
    wrap = workflow(
        "wrap",
        [{"name": "in", "use": "merge@1", "in": {"rows": "inputs.rows"}}],
        inputs={"rows": {}},
        outputs={"rows": "in.rows"},
    )
    whole = workflow(
        "w", steps, parameters=MODE, inputs=INPUT, outputs={use["name"]: f"{use['name']}.rows" for use in steps}
    )
    try:
        done = unfolded(whole, wrap, mode="full" if full else "quick")
    except UnfoldingError as error:
        assert not full and "every step is skipped" in str(error)
        return
    left = {use.name for use in done.workflow.spec.steps}
    read = {source for ports in reads(done).values() for sources in ports.values() for source in sources}
    assert {source.rpartition(".")[0] for source in read} <= left | {"inputs"}
    assert all(sources for ports in reads(done).values() for sources in ports.values())
    assert not full or not done.skipped


CALIBRATE = Step.model_validate(
    {
        "metadata": {"name": "calibrate", "version": "1"},
        "spec": {"run": {"python": "m:f"}, "outputs": {"year": {"as": "json"}}},
    }
)


def made_by(calibrate: dict[str, Any], **more: Any) -> Workflow:
    """A step whose parameter another one makes, within a workflow that is used as a step."""
    return workflow(
        "made",
        [
            {"name": "calibrate", "use": "calibrate@1", **calibrate},
            {
                "name": "a",
                "use": "s@1",
                "in": {"rows": "inputs.rows"},
                "parameters": {"year": "{calibrate.year}", "city": "ny"},
                **more,
            },
        ],
        inputs={"rows": {"dataset": "flights"}},
        outputs={"rows": "a.rows", "year": "calibrate.year"},
        parameters=MODE,
    )


def test_a_parameter_that_a_step_makes_is_made_by_that_step_wherever_it_stands() -> None:
    steps = {**STEPS, CALIBRATE.reference: CALIBRATE}
    outer = workflow(
        "outer",
        [
            {"name": "sub", "use": "workflow/made", "for_each": {"x": ["1", "2"]}, "in": {"rows": "inputs.flights"}},
            {"name": "one", "use": "workflow/made"},
            {
                "name": "b",
                "use": "s@1",
                "in": {"rows": {"from": "sub.rows", "gather": "all"}},
                "parameters": {"year": "{one.year}"},
            },
        ],
        inputs=INPUT,
        outputs={"out": "b.rows"},
    )
    assert check_workflow(outer, steps, workflows={"made": made_by({})}) == []
    done = unfold(outer, {}, steps, {"made": made_by({})})
    names = PlainPositions(uses=tuple(use.name for use in done.workflow.spec.steps))
    assert check_workflow(done.workflow, steps, None, names) == []
    given = {use.name: use.parameters for use in done.workflow.spec.steps}
    assert given["sub-0:a"] == {"year": "{sub-0:calibrate.year}", "city": "ny"}
    assert given["sub-1:a"]["year"] == "{sub-1:calibrate.year}"
    assert given["b"]["year"] == "{one:calibrate.year}"


def test_a_step_whose_parameter_a_skipped_step_makes_is_skipped() -> None:
    steps = {**STEPS, CALIBRATE.reference: CALIBRATE}
    whole = made_by({"when": "param.mode == 'full'"})
    whole = whole.model_copy(
        update={
            "spec": whole.spec.model_copy(
                update={
                    "steps": (
                        *whole.spec.steps,
                        *workflow("w", [{"name": "z", "use": "s@1", "in": {"rows": "inputs.rows"}}]).spec.steps,
                    )
                }
            )
        }
    )
    done = unfold(whole, {"mode": "quick"}, steps, {})
    assert [use.name for use in done.workflow.spec.steps] == ["z"]
    assert done.skipped["a"] == "what makes its parameter year is skipped: calibrate.year"


def decided_by(condition: str, **use: Any) -> Workflow:
    return workflow(
        "decided",
        [
            {"name": "calibrate", "use": CALIBRATE.reference, **use},
            {"name": "a", "use": "s@1", "when": condition, "in": {"rows": "inputs.rows"}, "parameters": {"year": 1}},
        ],
        inputs={"rows": {"dataset": "flights"}},
        outputs={"rows": "a.rows"},
        parameters=MODE,
    )


def test_a_condition_on_what_a_step_makes_is_left_with_all_that_is_known_put_in() -> None:
    steps = {**STEPS, CALIBRATE.reference: CALIBRATE}
    inner = decided_by("{calibrate.year} > 2000 or param.mode == 'full'")
    use = {"name": "one", "use": "workflow/decided", "in": {"rows": "inputs.flights"}}
    outer = workflow("outer", [use], inputs=INPUT, outputs={"out": "one.rows"})
    assert check_workflow(outer, steps, workflows={"decided": inner}) == []
    done = unfold(outer, {}, steps, {"decided": inner}).workflow
    names = PlainPositions(uses=tuple(use.name for use in done.spec.steps))
    assert check_workflow(done, steps, None, names) == []
    (left,) = [use.when for use in done.spec.steps if use.name == "one:a"]
    default = inner.spec.parameters["mode"].default
    assert left == f"{{one:calibrate.year}} > 2000 or {default!r} == 'full'"


def test_a_step_whose_condition_names_a_skipped_step_is_skipped() -> None:
    steps = {**STEPS, CALIBRATE.reference: CALIBRATE}
    whole = decided_by("{calibrate.year} > 2000", when="param.mode == 'full'")
    rest = workflow("w", [{"name": "z", "use": "s@1", "in": {"rows": "inputs.rows"}}]).spec.steps
    whole = whole.model_copy(update={"spec": whole.spec.model_copy(update={"steps": (*whole.spec.steps, *rest)})})
    done = unfold(whole, {"mode": "quick"}, steps, {})
    assert [use.name for use in done.workflow.spec.steps] == ["z"]
    assert done.skipped["a"] == "what its condition names is skipped: calibrate.year"
