"""Tasks as tests speak of them, in the contract's words, and as coordinator and node do: in orders and results."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.orders.messages import (
    Acks,
    Downward,
    Frees,
    Order,
    Orders,
    Output,
    Produced,
    Result,
    Results,
    Started,
    UnitInfo,
    Upward,
    Work,
)


class Speaker:
    """What is said on one stream: a work once, then orders of it."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._works: dict[tuple[bytes, tuple[tuple[str, int], ...]], int] = {}

    def start(self, task: node_pb2.StartTask) -> list[Downward]:
        """Execute a task."""
        number, said = self.work(task)
        return [*said, Orders(number, (Order(task.key.task, task.key.attempt, units_of(task)),))]

    def work(self, task: node_pb2.StartTask, follow: tuple[tuple[str, int], ...] = ()) -> tuple[int, list[Downward]]:
        """The number of a task's work, and what must be said before it is named."""
        common = node_pb2.StartTask()
        common.CopyFrom(task)
        common.key.ClearField("task")
        common.key.ClearField("attempt")
        for port in common.inputs:
            port.ClearField("units")
        packed = common.SerializeToString(deterministic=True)
        known = self._works.get((packed, follow))
        if known is not None:
            return known, []
        number = self._works[packed, follow] = next(self._numbers)
        return number, [Work(number, packed, follow)]


def units_of(task: node_pb2.StartTask) -> tuple[tuple[UnitInfo, ...], ...]:
    """The units of a task's inputs."""
    return tuple(
        tuple(UnitInfo(unit.id, unit.digest, unit.size, name=unit.name) for unit in port.units) for port in task.inputs
    )


def acks(keys: Iterable[node_pb2.TaskKey]) -> list[Downward]:
    """These results are heard."""
    return [Acks(key.namespace, key.run, ((key.task, key.attempt),)) for key in keys]


def frees(keys: Iterable[node_pb2.UnitKey]) -> list[Downward]:
    """These units are not needed."""
    return [Frees(key.namespace, key.run, (key.unit,)) for key in keys]


def heard(said: Iterable[Upward]) -> list[node_pb2.NodeMessage]:
    """What a node says of its tasks, in the contract's words."""
    messages = []
    for one in said:
        match one:
            case Results(namespace, run, results):
                for result in results:
                    messages.append(node_pb2.NodeMessage(finished=_finished(namespace, run, result)))
            case Started(namespace, run, tasks):
                for task, attempt in tasks:
                    key = node_pb2.TaskKey(namespace=namespace, run=run, task=task, attempt=attempt)
                    messages.append(node_pb2.NodeMessage(started=node_pb2.TaskStarted(key=key)))
            case Produced(namespace, run, task, attempt, outputs):
                key = node_pb2.TaskKey(namespace=namespace, run=run, task=task, attempt=attempt)
                told = node_pb2.TaskOutputs(key=key, outputs=map(_output, outputs))
                messages.append(node_pb2.NodeMessage(outputs=told))
    return messages


def _finished(namespace: str, run: str, result: Result) -> node_pb2.TaskFinished:
    finished = node_pb2.TaskFinished(
        key=node_pb2.TaskKey(namespace=namespace, run=run, task=result.task, attempt=result.attempt),
        outputs=map(_output, result.outputs),
        execution_seconds=result.seconds,
        peak_memory=result.peak_memory,
        bytes_in=result.bytes_in,
        bytes_out=result.bytes_out,
    )
    if result.failure is not None:
        failure = result.failure
        finished.failure.CopyFrom(model_pb2.Failure(kind=failure.kind, message=failure.message, detail=failure.detail))
    return finished


def _output(output: Output) -> node_pb2.ProducedUnit:
    unit = output.unit
    told = model_pb2.Unit(id=unit.id, digest=unit.digest, size=unit.size, name=unit.name)
    return node_pb2.ProducedUnit(port=output.port, index=output.index, unit=told)
