"""What other steps have made for a task beside its inputs: values of its parameters, and of its step's condition.

    task with inputs and values ─▶ the values' bytes from the store ─▶ checked by what the step declares
                                ─▶ does the condition hold? ─▶ the work with these parameters ─▶ task with inputs alone

A task whose condition does not hold is not executed: it makes nothing. The work is made once for each set of values,
which mostly is one for a run, so that a worker is told it once and all that executes tasks knows of parameters only.
What is wrong with a value fails its task, and the run with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from bdw_fed.v1 import model_pb2
from cluster_agent.data.base import Store, UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.node.works import Assignment, Work, small_work, values_of
from cluster_agent.orders.messages import SMALL, UNMET, UnitInfo
from cluster_agent.runtimes.base import Outcome
from topology.errors import WrongValue
from workflow.values import check_value, shown

if TYPE_CHECKING:
    from workflow.model import ParameterType, Value


class NotFilledError(Exception):
    """A parameter has no value that its step takes, or a condition does not hold; `outcome` is the task's."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(frozen=True)
class _Declared:
    """A parameter as its step declares it."""

    type: ParameterType
    enum: Sequence[Value] | None
    minimum: float | None
    maximum: float | None


def filled(task: Assignment, store: Store) -> Assignment:
    """The task with all of its parameters. NotFilledError."""
    key, work, order = task
    if not any(port.parameter for port in work.inputs):
        return task
    given: list[tuple[UnitInfo, ...]] = []
    makers: list[tuple[str, model_pb2.Filled, UnitInfo]] = []
    for port, units in zip(work.inputs, order.inputs, strict=True):
        if port.parameter is None:
            given.append(units)
        elif not units and port.parameter.when:
            raise _unmet(port.parameter, f"{port.parameter.maker} was not made")
        else:
            makers.append((port.form, port.parameter, _one(port.parameter, units)))
    digests = tuple(unit.digest for _, _, unit in makers)
    known = work.filled.get(digests)
    if known is None:
        run = UnitKey(key.namespace, key.run, b"")
        found = [(parameter, _value(run, form, parameter, unit, store)) for form, parameter, unit in makers]
        _decide([(parameter, value) for parameter, value in found if parameter.when])
        values = {parameter.name: value for parameter, value in found if not parameter.when}
        known = work.filled[digests] = _with(work, values)
    return Assignment(key, known, type(order)(order.task, order.attempt, tuple(given)))


def _decide(named: Sequence[tuple[model_pb2.Filled, Value]]) -> None:
    """NotFilledError if the condition that names these values does not hold, or can't be judged."""
    if not named:
        return
    from workflow.expressions import compiled

    parameter = named[0][0]
    values: dict[str, dict[str, Value]] = {}
    for each, value in named:
        step, _, port = each.maker.rpartition(".")
        values.setdefault(step, {})[port] = value
    try:
        holds = compiled(parameter.when).holds(values)
    except WrongValue as wrong:
        raise NotFilledError(Outcome("value", f"when: {wrong.message}")) from wrong
    if not holds:
        told = ", ".join(f"{each.maker} is {shown(value)}" for each, value in named)
        raise _unmet(parameter, told)


def _unmet(parameter: model_pb2.Filled, why: str) -> NotFilledError:
    return NotFilledError(Outcome(UNMET, f"when: {parameter.when} does not hold: {why}"))


def _with(work: Work, values: dict[str, Value]) -> Work:
    inputs = tuple(port for port in work.inputs if port.parameter is None)
    parameters = {**work.parameters, **values}
    fresh = replace(work, inputs=inputs, parameters=parameters, values=values_of(inputs, work.outputs), filled={})
    return replace(fresh, small=small_work(fresh))


def _one(parameter: model_pb2.Filled, units: Sequence[UnitInfo]) -> UnitInfo:
    if len(units) != 1:
        raise _unfit(parameter, f"{parameter.maker} has made {len(units)} values, and a parameter is one")
    if units[0].size > SMALL:
        size = units[0].size
        raise _unfit(parameter, f"{parameter.maker} has made a value of {size} bytes, which may have {SMALL} at most")
    return units[0]


def _value(run: UnitKey, form: str, parameter: model_pb2.Filled, unit: UnitInfo, store: Store) -> Value:
    """The value that a step has made for a parameter."""
    try:
        content = store.find(run._replace(unit=unit.id))
        if content.digest != unit.digest:
            raise DataError(f"unit {unit.id.hex()} has other bytes here than it should have")
        data = content.data if content.data is not None else content.file.read_bytes()
    except (DataError, OSError) as error:
        raise NotFilledError(Outcome("data", f"parameter {parameter.name} can't be read: {error}")) from error
    try:
        value = json.loads(data) if form == "json" else data.decode()
    except ValueError as error:
        raise _unfit(parameter, f"what {parameter.maker} has made is not {form}: {error}") from error
    return _judged(parameter, value)


def _judged(parameter: model_pb2.Filled, value: object) -> Value:
    """A value of a parameter's type, and within its bounds."""
    plain = tuple(value) if isinstance(value, list) else value
    if not all(
        isinstance(each, str | int | float | bool) for each in (plain if isinstance(plain, tuple) else (plain,))
    ):
        found = json.dumps(value, ensure_ascii=False)[:60]
        message = f"{parameter.maker} has made {found}, and a value is text, a number, true, false or a list of these"
        raise _unfit(parameter, message)
    fault = None if parameter.when else check_value(parameter.name, cast("Value", plain), _declared(parameter))
    if fault is not None:
        raise _unfit(parameter, f"what {parameter.maker} has made does not fit: {fault.message}")
    return float(cast(int, plain)) if parameter.type == "number" else cast("Value", plain)


def _declared(parameter: model_pb2.Filled) -> _Declared:
    allowed: list[Any] | None = json.loads(parameter.enum_json) if parameter.enum_json else None
    return _Declared(
        cast("ParameterType", parameter.type),
        [tuple(each) if isinstance(each, list) else each for each in allowed] if allowed is not None else None,
        parameter.minimum if parameter.HasField("minimum") else None,
        parameter.maximum if parameter.HasField("maximum") else None,
    )


def _unfit(parameter: model_pb2.Filled, message: str) -> NotFilledError:
    what = "when" if parameter.when else f"parameter {parameter.name}"
    return NotFilledError(Outcome("value", f"{what}: {message}"))
