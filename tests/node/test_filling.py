"""What another step has made becomes a task's parameter, if it is what the step takes; else the task says why not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import Content, Store, UnitKey
from cluster_agent.data.errors import UnitMissingError
from cluster_agent.node.filling import NotFilledError, filled
from cluster_agent.node.works import Assignment, assignment, read_work
from cluster_agent.orders.messages import SMALL, Order, UnitInfo, Work
from wire.digests import bytes_digest

ROW = UnitInfo(b"row", bytes_digest(b"1"), 1)


class Contents:
    """The part of a store that is asked here."""

    def __init__(self, **units: bytes) -> None:
        self.units = {name.encode(): data for name, data in units.items()}
        self.asked = 0

    def find(self, key: UnitKey) -> Content:
        self.asked += 1
        if key.unit not in self.units:
            raise UnitMissingError(f"unit {key.unit.decode()} is not here")
        data = self.units[key.unit]
        return Content(bytes_digest(data), len(data), data=data)


def told(form: str = "json", **declared: Any) -> Work:
    start = node_pb2.StartTask(step="use", parameters_json='{"title": "x"}')
    start.key.namespace, start.key.run = "default", "run1"
    start.execution.python.function = "m:f"
    start.inputs.add(port="row")
    parameter = model_pb2.Filled(**{"name": "least", "type": "integer", "maker": "calibrate.value", **declared})
    start.inputs.add(port="param.least", many=True, form=form, parameter=parameter)
    start.outputs.add(name="out")
    return Work(1, start.SerializeToString())


def task(work: Work, *values: UnitInfo) -> Assignment:
    return assignment(read_work(work, {}), Order(b"t", 1, ((ROW,), values)))


def value(name: str, data: bytes) -> UnitInfo:
    return UnitInfo(name.encode(), bytes_digest(data), len(data))


def given(data: bytes, form: str = "json", **declared: Any) -> object:
    store = cast(Store, Contents(v=data))
    return filled(task(told(form, **declared), value("v", data)), store).work.parameters["least"]


def refusal(data: bytes, form: str = "json", **declared: Any) -> str:
    with pytest.raises(NotFilledError) as caught:
        given(data, form, **declared)
    assert caught.value.outcome.kind == "value"
    return caught.value.outcome.message


def test_a_value_stands_beside_the_other_parameters_and_is_no_input_any_more() -> None:
    whole = filled(task(told(), value("v", b"7")), cast(Store, Contents(v=b"7")))
    assert whole.work.parameters == {"title": "x", "least": 7}
    assert [port.name for port in whole.work.inputs] == ["row"]
    assert whole.order.inputs == ((ROW,),)
    assert whole.light, "with its value the task is as small as its inputs are"


@pytest.mark.parametrize(
    ("data", "form", "declared", "expected"),
    [
        (b"-3", "json", {}, -3),
        (b"3", "json", {"type": "number"}, 3.0),
        (b'"x"', "json", {"type": "string"}, "x"),
        (b"x\n", "text", {"type": "string"}, "x\n"),
        (b"true", "json", {"type": "boolean"}, True),
        (b'["a", 1]', "json", {"type": "array"}, ("a", 1)),
        (b"5", "json", {"minimum": 5, "maximum": 5, "enum_json": "[1, 5]"}, 5),
    ],
)
def test_a_value_has_the_type_that_is_declared(data: bytes, form: str, declared: Any, expected: object) -> None:
    found = given(data, form, **declared)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("data", "form", "declared", "words"),
    [
        (b'"7"', "json", {}, "what calibrate.value has made does not fit: expected a whole number, found the text '7'"),
        (b"4", "json", {"minimum": 5}, "4 is out of range: expected at least 5"),
        (b"4", "json", {"enum_json": "[1, 5]"}, "'4' is not one of 1, 5"),
        (b"{", "json", {}, "what calibrate.value has made is not json"),
        (b"\xff", "text", {"type": "string"}, "what calibrate.value has made is not text"),
        (b'{"a": 1}', "json", {}, 'calibrate.value has made {"a": 1}, and a value is text, a number'),
        (b"[[1]]", "json", {"type": "array"}, "calibrate.value has made [[1]], and a value is text, a number"),
        (b"null", "json", {}, "calibrate.value has made null, and a value is text, a number"),
        (b"1" * (SMALL + 1), "json", {}, f"has made a value of {SMALL + 1} bytes, which may have {SMALL} at most"),
    ],
)
def test_a_value_that_the_step_does_not_take_is_told_by_its_maker(
    data: bytes, form: str, declared: Any, words: str
) -> None:
    assert words in refusal(data, form, **declared)
    assert refusal(data, form, **declared).startswith("parameter least: ")


@pytest.mark.parametrize("count", [0, 2])
def test_a_parameter_is_one_value(count: int) -> None:
    values = [value(f"v{number}", b"7") for number in range(count)]
    with pytest.raises(NotFilledError, match=f"calibrate.value has made {count} values, and a parameter is one"):
        filled(task(told(), *values), cast(Store, Contents(v0=b"7", v1=b"7")))


def test_a_value_that_is_not_here_is_not_the_steps_fault() -> None:
    with pytest.raises(NotFilledError) as caught:
        filled(task(told(), value("v", b"7")), cast(Store, Contents()))
    assert caught.value.outcome.kind == "data"
    with pytest.raises(NotFilledError) as caught:
        filled(task(told(), value("v", b"7")), cast(Store, Contents(v=b"8")))
    assert caught.value.outcome.kind == "data"


def test_the_same_value_is_read_once_and_gives_the_same_work() -> None:
    store = Contents(v=b"7", w=b"8")
    work = read_work(told(), {})
    first, again, other = (
        filled(assignment(work, Order(name, 1, ((ROW,), (unit,)))), cast(Store, store)).work
        for name, unit in ((b"1", value("v", b"7")), (b"2", value("v", b"7")), (b"3", value("w", b"8")))
    )
    assert first is again
    assert first is not other
    assert store.asked == 2


WHEN = "{calibrate.value} > 5 and {name.word} == 'go'"


def decided(number: bytes | None, word: bytes = b"go") -> Assignment:
    start = node_pb2.StartTask(step="use", parameters_json='{"title": "x"}')
    start.key.namespace, start.key.run = "default", "run1"
    start.execution.python.function = "m:f"
    start.inputs.add(port="row")
    for index, (maker, form) in enumerate((("calibrate.value", "json"), ("name.word", "text"))):
        parameter = model_pb2.Filled(name=maker, maker=maker, when=WHEN)
        start.inputs.add(port=f"when.{index}", many=True, form=form, parameter=parameter)
    start.outputs.add(name="out")
    values = (() if number is None else (value("n", number),), (value("w", word),))
    order = Order(b"t", 1, ((ROW,), *values))
    store = cast(Store, Contents(n=number or b"", w=word))
    return filled(assignment(read_work(Work(1, start.SerializeToString()), {}), order), store)


def test_a_task_whose_condition_holds_sees_nothing_of_what_it_names() -> None:
    whole = decided(b"7")
    assert whole.work.parameters == {"title": "x"}
    assert whole.order.inputs == ((ROW,),)


@pytest.mark.parametrize(
    ("number", "word", "kind", "said"),
    [
        (b"5", b"go", "unmet", f"when: {WHEN} does not hold: calibrate.value is 5, name.word is go"),
        (b"7", b"stay", "unmet", "does not hold"),
        (None, b"go", "unmet", "does not hold: calibrate.value was not made"),
        (b'"x"', b"go", "value", "when: "),
        (b"{}", b"go", "value", "when: calibrate.value has made {}, and a value is text, a number"),
        (b"nan?", b"go", "value", "when: what calibrate.value has made is not json"),
    ],
)
def test_else_it_is_not_made_and_what_can_not_be_compared_fails_it(
    number: bytes | None, word: bytes, kind: str, said: str
) -> None:
    with pytest.raises(NotFilledError) as caught:
        decided(number, word)
    assert caught.value.outcome.kind == kind
    assert said in caught.value.outcome.message
