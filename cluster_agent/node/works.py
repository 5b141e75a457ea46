"""What all tasks of a step have in common, read once from the coordinator's `Work`; an assignment is one such task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import path_part, suffix
from cluster_agent.data.errors import BadNameError
from cluster_agent.node.messages import PoolSpec, TaskKey
from cluster_agent.node.recipe import KINDS
from cluster_agent.orders import messages
from cluster_agent.orders.messages import SMALL, Order, Result, UnitInfo
from cluster_agent.runtimes.base import NO_VALUES, SmallWork, Values
from wire.digests import task_id
from wire.lines import run_of
from workflow.formats import DIRECTORY

BUILT_IN = frozenset(("split", "merge"))
"""Kinds that the daemon executes itself."""
_PATH = ("", "path")
_SMALL = ("python", "command")  # whose tasks can be small jobs


class Port(NamedTuple):
    """An input; `many`: the step sees a list, also of one."""

    name: str
    format: str
    many: bool
    form: str = ""  # how a function is given it: bytes, text or json; empty: as a path
    parameter: model_pb2.Filled | None = None  # its unit is the value of this parameter: see filling


@dataclass(frozen=True, eq=False)
class Work:
    """A step of a run. `pool` is None for the built-in kinds, `small` where its tasks can't be small jobs."""

    namespace: str
    run: str
    step: str
    kind: str
    execution: model_pb2.Execution
    resources: model_pb2.Resources
    pool: PoolSpec | None
    inputs: tuple[Port, ...]
    outputs: tuple[model_pb2.OutputPort, ...]
    parameters: Mapping[str, Any]
    environment: Mapping[str, str]  # what its tasks find, whichever they are
    timeout: float
    values: Values
    small: SmallWork | None
    follow: Mapping[str, Work]
    filled: dict[tuple[bytes, ...], Work] = field(default_factory=dict)  # with values that other steps have made


class Assignment(NamedTuple):
    """A task that this node was given."""

    key: TaskKey
    work: Work
    order: Order

    @property
    def light(self) -> bool:
        """Whether it can be executed as a small job."""
        if self.work.small is None:
            return False
        return all(len(units) == 1 and units[0].size <= SMALL for units in self.order.inputs)

    @property
    def bytes_in(self) -> int:
        """Of all its inputs together."""
        return sum(unit.size for units in self.order.inputs for unit in units)


class Done(NamedTuple):
    """A task that has ended and is wanted still. `gone_on`: what follows from it has begun already."""

    assignment: Assignment
    result: Result
    gone_on: bool = False


def assignment(work: Work, order: Order) -> Assignment:
    """A task of a work."""
    return Assignment(TaskKey(work.namespace, work.run, order.task, order.attempt), work, order)


def follower(work: Work, unit: UnitInfo) -> Assignment:
    """The one task that a unit becomes where a node goes on by itself; its first attempt."""
    task = task_id(work.namespace, work.run, work.step, [(work.inputs[0].name, [unit.id])])
    return assignment(work, Order(task, 1, ((unit,),)))


def read_work(told: messages.Work, known: Mapping[int, Work]) -> Work:
    """A work as the coordinator says it, after those that follow it. ValueError if it can't be understood."""
    start = node_pb2.StartTask.FromString(told.start)
    kind = start.execution.WhichOneof("kind") or ""
    pool = pool_spec(start.definition, start.execution, start.resources) if kind in KINDS else None
    inputs = tuple(
        Port(one.port, one.format, one.many, one.form, one.parameter if one.HasField("parameter") else None)
        for one in start.inputs
    )
    values = values_of(inputs, start.outputs)
    parameters = json.loads(start.parameters_json or "{}")
    environment = {
        "BDW_FED_RUN": run_of(start.key.run),
        "BDW_FED_STEP": start.step,
        "BDW_FED_NAMESPACE": start.key.namespace,
    }
    work = Work(
        start.key.namespace,
        start.key.run,
        start.step,
        kind,
        start.execution,
        start.resources,
        pool,
        inputs,
        tuple(start.outputs),
        parameters,
        environment,
        start.timeout,
        values,
        None,
        {port: known[number] for port, number in told.follow},
    )
    return replace(work, small=small_work(work))


def small_work(work: Work) -> SmallWork | None:
    """What a worker must know to execute the work's tasks as small jobs; None if they can't be."""
    resources = work.resources
    limited = work.kind not in _SMALL or work.timeout or resources.disk
    limited = limited or (work.kind == "command" and resources.memory)
    formats = {*(port.format for port in work.inputs), *(port.format for port in work.outputs)}
    limited = limited or DIRECTORY in formats
    if work.pool is None or limited or any(port.many or port.parameter for port in work.inputs):
        return None
    try:
        files_in = tuple((port.name, file_name(port.name, port.format)) for port in work.inputs)
        files_out = tuple((port.name, file_name(port.name, port.format)) for port in work.outputs)
    except BadNameError:
        return None  # told when the task's directory is made
    return SmallWork(work.environment, files_in, files_out, work.parameters, work.values)


def pool_spec(definition: str, execution: model_pb2.Execution, resources: model_pb2.Resources) -> PoolSpec:
    """The pool of a step version with these resources."""
    version = execution.SerializeToString(deterministic=True)
    limits = resources.SerializeToString(deterministic=True)
    name = f"{definition}\0{version.hex()}\0{limits.hex()}"
    return PoolSpec(name, definition, resources.cpus or 1.0, resources.memory)


def file_name(port: str, format_name: str) -> str:
    """The name of a port's file. BadNameError."""
    return f"{path_part(port)}{suffix(format_name)}"


def values_of(inputs: Sequence[Port], outputs: Sequence[model_pb2.OutputPort]) -> Values:
    """What a function takes and returns as values."""
    taken = {port.name: port.form for port in inputs if port.form not in _PATH and not port.parameter}
    returned = {port.name: (port.form, port.optional) for port in outputs if port.form not in _PATH}
    return Values(taken, returned) if taken or returned else NO_VALUES
