"""What coordinator and node say to each other of a task, one at a time, as a test wants to read and write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.coordinator.messages import NodeSaid, RunKey
from cluster_agent.orders.messages import (
    Acks,
    Downward,
    Failure,
    Frees,
    Hold,
    Orders,
    Output,
    Produced,
    Result,
    Results,
    Started,
    UnitInfo,
    Work,
)


class Ears:
    """A node's end of a stream: it knows the works that it was told, and hears each order by itself."""

    def __init__(self) -> None:
        self.works: dict[int, Work] = {}

    def hear(self, said: bytes | Downward) -> Iterator[tuple[str, Message]]:
        """(kind, message) of each: a NodeCommand's, or "start", "acked", "freed" for a task or unit, "hold"."""
        match said:
            case bytes():
                command = node_pb2.NodeCommand.FromString(said)
                kind = command.WhichOneof("kind") or ""
                yield kind, getattr(command, kind)
            case Work(number=number):
                self.works[number] = said
            case Orders(work=work, orders=orders):
                for order in orders:
                    start = node_pb2.StartTask.FromString(self.works[work].start)
                    start.key.task, start.key.attempt = order.task, order.attempt
                    for port, units in zip(start.inputs, order.inputs, strict=True):
                        port.units.extend(map(unit_proto, units))
                    yield "start", start
            case Acks(namespace=namespace, run=run, tasks=tasks):
                for task, attempt in tasks:
                    yield "ack", node_pb2.TaskKey(namespace=namespace, run=run, task=task, attempt=attempt)
            case Frees(namespace=namespace, run=run, units=units):
                for unit in units:
                    yield "free", node_pb2.UnitKey(namespace=namespace, run=run, unit=unit)
            case Hold():
                pass


def unit_proto(unit: UnitInfo) -> model_pb2.Unit:
    fields = {name: getattr(unit, name) for name in unit.__struct_fields__}
    return model_pb2.Unit(**fields)


def started(node: str, run: RunKey, task: bytes, attempt: int) -> NodeSaid:
    return NodeSaid(node, Started(run.namespace, run.run, ((task, attempt),)))


def produced(node: str, run: RunKey, task: bytes, attempt: int, outputs: Sequence[Output]) -> NodeSaid:
    return NodeSaid(node, Produced(run.namespace, run.run, task, attempt, tuple(outputs)))


def done(
    node: str,
    run: RunKey,
    task: bytes,
    attempt: int,
    outputs: Sequence[Output] = (),
    seconds: float = 0.0,
    bytes_in: int = 0,
) -> NodeSaid:
    result = Result(task, attempt, tuple(outputs), seconds=seconds, bytes_in=bytes_in)
    return NodeSaid(node, Results(run.namespace, run.run, (result,)))


def failed(node: str, run: RunKey, task: bytes, attempt: int, failure: Failure, seconds: float = 0.0) -> NodeSaid:
    return NodeSaid(node, Results(run.namespace, run.run, (Result(task, attempt, (), failure, seconds),)))
