"""Parameters and placeholders: values keep their types, and every fault is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.errors import WrongValue
from workflow.errors import ParameterError
from workflow.model import Parameter, StepUse
from workflow.parameters import parse, resolve, resolve_step
from workflow.placeholders import Placeholder, fill
from workflow.placeholders import parse as parse_text


def declared(**parameters: dict[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter.model_validate(parameter) for name, parameter in parameters.items()}


def faults(given: dict[str, Any], **parameters: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ParameterError) as error:
        resolve(given, declared(**parameters))
    return [(fault.name, fault.kind) for fault in error.value.faults]


def test_what_is_given_counts_and_else_the_default() -> None:
    takes = declared(late={"type": "integer", "default": 15}, title={"type": "string", "default": "Delays"})
    assert resolve({"late": 5}, takes) == {"late": 5, "title": "Delays"}


def test_a_whole_number_is_a_number_too_and_becomes_one() -> None:
    (value,) = resolve({"x": 1}, declared(x={"type": "number"})).values()
    assert value == 1.0 and isinstance(value, float)


def test_a_list_from_json_is_a_list() -> None:
    assert resolve({"x": ["a", 1]}, declared(x={"type": "array"})) == {"x": ("a", 1)}


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        {"late": "15", "day": 32, "carrier": "LH", "lte": 1, "deep": {"a": 1}, "flag": 1},
        late={"type": "integer"},
        day={"type": "integer", "maximum": 31},
        carrier={"type": "string", "enum": ["AA", "DL"]},
        title={"type": "string"},
        deep={"type": "array"},
        flag={"type": "boolean"},
    )
    assert found == [
        ("lte", "unknown"),
        ("late", "type"),
        ("day", "range"),
        ("carrier", "enum"),
        ("title", "missing"),
        ("deep", "type"),
        ("flag", "type"),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "5", "5"),
        ("integer", "5", 5),
        ("number", "5", 5.0),
        ("number", "1e3", 1000.0),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("array", "a,b", ("a", "b")),
        ("array", "", ()),
    ],
)
def test_a_value_typed_on_the_command_line_gets_the_declared_type(kind: str, text: str, value: object) -> None:
    found = parse(text, Parameter.model_validate({"type": kind}))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("kind", "text"), [("integer", "5.5"), ("number", "x"), ("boolean", "1"), ("integer", "")])
def test_a_value_that_is_not_of_the_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(WrongValue):
        parse(text, Parameter.model_validate({"type": kind}))


def test_a_step_gets_the_workflows_parameters_with_their_types() -> None:
    use = StepUse.model_validate(
        {
            "name": "a",
            "use": "a@1",
            "parameters": {
                "late": "{param.late}",
                "title": "Over {param.late} min {{sic}}",
                "all": ["{param.late}"],
            },
        }
    )
    takes = declared(late={"type": "integer"}, title={"type": "string"}, all={"type": "array"})
    assert resolve_step(use, takes, {"late": 15}) == {"late": 15, "title": "Over 15 min {sic}", "all": (15,)}


def test_a_parameter_that_the_workflow_does_not_have_is_told() -> None:
    use = StepUse.model_validate({"name": "a", "use": "a@1", "parameters": {"late": "{param.lat}", "x": "{in.rows}"}})
    with pytest.raises(ParameterError) as error:
        resolve_step(use, declared(late={"type": "integer"}), {"late": 15})
    assert [(fault.name, fault.kind) for fault in error.value.faults] == [("late", "template"), ("x", "template")]


def test_placeholders_are_told_from_braces() -> None:
    assert parse_text("{bundle}/a {{b}} {in.rows}") == (
        *(Placeholder("bundle"), "/a ", "{", "b", "}", " ", Placeholder("in", "rows")),
    )


@pytest.mark.parametrize("text", ["{", "}", "{}", "{x}", "{in.}", "{in.a.b}", "{param.1}", "a}b", "{{x}"])
def test_a_brace_that_is_neither_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(WrongValue) as wrong:
        parse_text(text)
    assert "{{" in wrong.value.remedy or "}}" in wrong.value.remedy


@given(st.text())
def test_text_with_its_braces_doubled_means_itself(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}"), {}) == text
