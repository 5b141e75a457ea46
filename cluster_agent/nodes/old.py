"""Nodes that speak of tasks in protobuf only (`orders_version` 0): their words turned into ours, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.nodes.translate import outputs_of
from cluster_agent.orders.messages import (
    Acks,
    Downward,
    Failure,
    Frees,
    Orders,
    Produced,
    Result,
    Results,
    Started,
    Upward,
    Work,
)


class OldWords:
    """One stream's."""

    def __init__(self) -> None:
        self._works: dict[int, node_pb2.StartTask] = {}

    def commands(self, said: Sequence[bytes | Downward]) -> list[bytes | Downward]:
        """Commands for what is said."""
        return [command for each in said for command in ([each] if isinstance(each, bytes) else self._of(each))]

    def _of(self, said: Downward) -> Iterator[bytes]:
        command = node_pb2.NodeCommand()
        match said:
            case Work(number=number, start=start):
                self._works[number] = node_pb2.StartTask.FromString(start)
                return
            case Orders(work=work, orders=orders):
                for order in orders:
                    one = node_pb2.NodeCommand(start=self._works[work])
                    one.start.key.task, one.start.key.attempt = order.task, order.attempt
                    for port, units in zip(one.start.inputs, order.inputs, strict=True):
                        for unit in units:
                            port.units.append(
                                model_pb2.Unit(
                                    id=unit.id,
                                    digest=unit.digest,
                                    size=unit.size,
                                    task=unit.task,
                                    origin=unit.origin,
                                    generation=unit.generation,
                                    name=unit.name,
                                )
                            )
                    yield one.SerializeToString()
                return
            case Acks(namespace=namespace, run=run, tasks=tasks):
                for task, attempt in tasks:
                    command.ack.keys.add(namespace=namespace, run=run, task=task, attempt=attempt)
            case Frees(namespace=namespace, run=run, units=units):
                for unit_id in units:
                    command.free.units.add(namespace=namespace, run=run, unit=unit_id)
            case _:
                return
        yield command.SerializeToString()


def finished(message: node_pb2.TaskFinished) -> Results:
    """The end of a task."""
    key = message.key
    failure = None
    if message.HasField("failure"):
        failure = Failure(message.failure.kind, message.failure.message, message.failure.detail)
    result = Result(
        key.task,
        key.attempt,
        outputs_of(message.outputs),
        failure,
        message.execution_seconds,
        bytes_in=message.bytes_in,
    )
    return Results(key.namespace, key.run, (result,))


def upward(message: node_pb2.NodeMessage) -> Upward | None:
    """What is said of a task; None if it is something else."""
    match message.WhichOneof("kind"):
        case "finished":
            return finished(message.finished)
        case "started":
            key = message.started.key
            return Started(key.namespace, key.run, ((key.task, key.attempt),))
        case "outputs":
            key = message.outputs.key
            return Produced(key.namespace, key.run, key.task, key.attempt, outputs_of(message.outputs.outputs))
    return None
