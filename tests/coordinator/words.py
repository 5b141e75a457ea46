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
from wire.digests import task_id


class Ears:
    """A node's end of a stream: it knows the works that it was told, and hears each order by itself."""

    def __init__(self) -> None:
        self.works: dict[int, Work] = {}
        self.work_of: dict[tuple[bytes, int], Work] = {}  # (task, attempt) -> its work
        self.held: dict[RunKey, bool] = {}

    def hear(self, said: bytes | Downward) -> Iterator[tuple[str, Message]]:
        """(kind, message) of each: a NodeCommand's, or "start", "ack", "free" for one task or unit."""
        match said:
            case bytes():
                command = node_pb2.NodeCommand.FromString(said)
                kind = command.WhichOneof("kind") or ""
                yield kind, getattr(command, kind)
            case Work(number=number):
                self.works[number] = said
            case Orders(work=work, orders=orders):
                for order in orders:
                    self.work_of[order.task, order.attempt] = self.works[work]
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
            case Hold(namespace=namespace, run=run, held=held):
                self.held[RunKey(namespace, run)] = held

    def following(self, task: node_pb2.StartTask, outputs: Sequence[Output]) -> list[node_pb2.StartTask] | None:
        """The tasks with which a node goes on by itself after `task`; None if it may not."""
        work = self.work_of.get((task.key.task, task.key.attempt))
        if work is None or not work.follow or self.held.get(RunKey(task.key.namespace, task.key.run)):
            return None
        follow = dict(work.follow)
        found = []
        for output in outputs:
            if output.port in follow:
                following = self.works[follow[output.port]]
                start = node_pb2.StartTask.FromString(following.start)
                (port,) = start.inputs
                port.units.append(unit_proto(output.unit))
                key = start.key
                units = [(port.port, [output.unit.id])]
                key.task, key.attempt = task_id(key.namespace, key.run, start.step, units), 1
                self.work_of[key.task, 1] = following
                found.append(start)
        return found


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
    *,
    followed: bool = False,
) -> NodeSaid:
    result = Result(task, attempt, tuple(outputs), seconds=seconds, bytes_in=bytes_in, followed=followed)
    return NodeSaid(node, Results(run.namespace, run.run, (result,)))


def failed(node: str, run: RunKey, task: bytes, attempt: int, failure: Failure, seconds: float = 0.0) -> NodeSaid:
    return NodeSaid(node, Results(run.namespace, run.run, (Result(task, attempt, (), failure, seconds),)))
