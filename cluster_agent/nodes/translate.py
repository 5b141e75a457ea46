"""What node daemons say, but of each task, in the core's form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bdw_fed.v1 import control_plane_pb2, model_pb2, node_pb2
from cluster_agent.coordinator.messages import (
    ContentsTaken,
    DiskTold,
    Event,
    FetchEnded,
    NodeChanged,
    NodeJoined,
    Place,
    PoolTold,
    PushEnded,
    RunKey,
    SourceRead,
    UnitsDamaged,
    UnitsShared,
    UnitsUnshared,
)
from cluster_agent.orders.messages import Output, UnitInfo

_DISK_STEPS: Final = 16


def joined(hello: node_pb2.NodeHello, stream: int) -> NodeJoined:
    """A node's hello on a new stream, without the results that come with it."""
    runs = _Runs()
    return NodeJoined(
        node=hello.node,
        incarnation=hello.incarnation,
        cpus=hello.status.cpus,
        memory=hello.status.memory,
        place=Place(hello.cluster, hello.node, hello.data_address, hello.server_name),
        running=tuple((runs.of(key), key.task, key.attempt) for key in hello.running),
        units=tuple((runs.of(key), key.unit) for key in hello.units),
        fetching=tuple((runs.of(key), key.unit) for key in hello.fetching),
        stream=stream,
        cordoned=hello.status.cordoned,
        places=tuple(hello.places),
        shared=tuple(RunKey(each.namespace, each.run) for each in hello.shared),
        disk_free=hello.status.disk_free,
        disk_size=hello.status.disk_size,
    )


def pool_told(node: str, message: node_pb2.WorkersChanged) -> PoolTold:
    """The workers of a pool on a node."""
    return PoolTold(
        node,
        message.step,
        message.starting,
        message.idle,
        message.busy,
        message.start_seconds,
        message.error,
        message.full,
        message.final,
    )


def changed(node: str, before: control_plane_pb2.NodeStatus, now: control_plane_pb2.NodeStatus) -> NodeChanged | None:
    """What matters of a node's new status; None if that is as it was."""
    room = (now.cpus, now.memory, now.cordoned)
    return NodeChanged(node, *room) if room != (before.cpus, before.memory, before.cordoned) else None


def disk_told(node: str, before: DiskTold, now: control_plane_pb2.NodeStatus) -> DiskTold | None:
    """The room on a node's disk, where it differs from what the coordinator was told by more than a sixteenth."""
    differs = abs(now.disk_free - before.free) * _DISK_STEPS >= max(1, min(now.disk_free, before.free))
    return DiskTold(node, now.disk_free, now.disk_size) if differs or now.disk_size != before.size else None


def event_of(node: str, message: node_pb2.NodeMessage) -> Event | None:
    """The event that a message is; None for what only the agent itself is interested in."""
    match message.WhichOneof("kind"):
        case "fetched":
            fetched = message.fetched
            run = RunKey(fetched.unit.namespace, fetched.unit.run)
            return FetchEnded(
                node,
                run,
                fetched.unit.unit,
                fetched.bytes,
                fetched.seconds,
                fetched.error,
                fetched.gone,
                fetched.shared,
                fetched.unshared,
            )
        case "shared":
            shared = message.shared
            return UnitsShared(node, RunKey(shared.namespace, shared.run), shared.place, tuple(shared.units))
        case "damaged":
            told = message.damaged
            run = RunKey(told.namespace, told.run)
            return UnitsDamaged(node, run, tuple(told.units), told.digest, told.size, told.why, told.shared)
        case "unshared":
            gone = message.unshared
            run = RunKey(gone.namespace, gone.run)
            return UnitsUnshared(node, run, gone.place, tuple(gone.units), gone.all, gone.error)
        case "pushed":
            pushed = message.pushed
            run = RunKey(pushed.unit.namespace, pushed.unit.run)
            return PushEnded(node, run, pushed.unit.unit, pushed.address, pushed.error, pushed.gone)
        case "taken":
            run = RunKey(message.taken.namespace, message.taken.run)
            return ContentsTaken(node, run, message.taken.task, message.taken.found)
        case "source":
            source = message.source
            return SourceRead(
                node,
                RunKey(source.namespace, source.run),
                source.step,
                source.index,
                outputs_of(source.units),
                source.error,
                source.asked,
                source.followed,
                source.epoch,
            )
    return None


def outputs_of(produced: Iterable[node_pb2.ProducedUnit]) -> tuple[Output, ...]:
    """Units as they are told."""
    return tuple(Output(one.port, one.index, _unit(one.unit)) for one in produced)


def _unit(unit: model_pb2.Unit) -> UnitInfo:
    return UnitInfo(unit.id, unit.digest, unit.size, unit.task, unit.origin, unit.generation, unit.name)


class _Runs:
    """One RunKey for each run of a list that names few of them many times."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], RunKey] = {}

    def of(self, key: node_pb2.TaskKey | node_pb2.UnitKey) -> RunKey:
        pair = key.namespace, key.run
        run = self._known.get(pair)
        if run is None:
            run = self._known[pair] = RunKey(*pair)
        return run
