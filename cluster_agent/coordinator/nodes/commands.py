"""What is rarely said to a node, as serialised `bdw_fed.v1.NodeCommand`s; `ordering` says what each task needs."""

from __future__ import annotations

from collections.abc import Iterable

from bdw_fed.v1 import node_pb2
from cluster_agent.coordinator.fragment import CROSS, EACH, MERGE, ZIP, Graph, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.state import Part, Unit
from cluster_agent.coordinator.units.infos import unit_proto
from cluster_agent.orders.messages import Output


def work(live: LiveRun, step: Step) -> bytes:
    """What all tasks of a step have in common: a serialised `bdw_fed.v1.StartTask`."""
    message = node_pb2.StartTask.FromString(step.start)
    message.key.namespace = live.key.namespace
    message.key.run = live.key.run
    for edge in step.inputs:
        one = edge.pairing in (EACH, CROSS, ZIP) and edge.batch is None
        merged = step.kind != MERGE and any(producer.kind == MERGE for producer, _ in edge.made)
        many = not one and not merged
        message.inputs.add(port=edge.port, format=edge.format, many=many, form=edge.form, parameter=edge.parameter)
    return message.SerializeToString()


def members(runs: Iterable[Graph], *, every: bool = False) -> bytes:
    """Which clusters take part in these runs; `every`: and there are no others."""
    command = node_pb2.NodeCommand()
    command.members.all = every
    for graph in runs:
        command.members.runs.add(namespace=graph.namespace, run=graph.run, clusters=sorted(graph.epochs))
    return command.SerializeToString()


def cancel(run: RunKey, task: bytes, attempt: int) -> bytes:
    """Stop a task; what it made is dropped."""
    command = node_pb2.NodeCommand()
    _task_key(command.cancel.key, run, task, attempt)
    return command.SerializeToString()


def fetch(run: RunKey, unit: Unit, place: Place) -> bytes:
    """Pull a unit from a shared place, if there is one, else from the node at `place`."""
    command = node_pb2.NodeCommand()
    message = command.fetch
    _unit_key(message.key, run, unit)
    message.unit.CopyFrom(unit_proto(unit))
    if place.address:
        message.addresses.append(place.address)
    message.server_name = place.server_name
    message.from_cluster = place.cluster
    message.place = place.shared
    return command.SerializeToString()


def refer(run: RunKey, unit: Unit, cluster: str) -> bytes:
    """Count as having a unit that lies in the bucket of this cluster, and leave it there."""
    command = node_pb2.NodeCommand()
    _unit_key(command.fetch.key, run, unit)
    command.fetch.unit.CopyFrom(unit_proto(unit))
    command.fetch.from_cluster = cluster
    command.fetch.place = unit.shared
    command.fetch.refer = True
    return command.SerializeToString()


def expect(run: RunKey, unit: Unit, cluster: str) -> bytes:
    """A node of another cluster will push a unit."""
    command = node_pb2.NodeCommand()
    _unit_key(command.expect.key, run, unit)
    command.expect.unit.CopyFrom(unit_proto(unit))
    command.expect.from_cluster = cluster
    return command.SerializeToString()


def push(run: RunKey, unit: Unit, place: Place) -> bytes:
    """Push a unit to a node of another cluster."""
    command = node_pb2.NodeCommand()
    _unit_key(command.push.key, run, unit)
    command.push.unit.CopyFrom(unit_proto(unit))
    command.push.address = place.address
    command.push.server_name = place.server_name
    return command.SerializeToString()


def open_source(live: LiveRun, part: Part, follow: int) -> bytes:
    """Take a part of a dataset into the store. `follow`: the work to go on with, 0 for none."""
    command = node_pb2.NodeCommand()
    message = command.open
    message.namespace = live.key.namespace
    message.run = live.key.run
    step = live.graph.steps[part.step]
    message.step, message.directory = step.name, step.whole
    message.index = part.index
    message.path = part.path
    message.follow = follow
    message.epoch = live.graph.epoch
    return command.SerializeToString()


def size_pool(step: Step, workers: int) -> bytes:
    """Keep so many workers of the step's definition ready."""
    template = node_pb2.StartTask.FromString(step.start)
    command = node_pb2.NodeCommand()
    command.pool.definition = step.definition
    command.pool.workers = workers
    command.pool.bounded = step.pool_max > 0
    command.pool.execution.CopyFrom(template.execution)
    command.pool.resources.CopyFrom(template.resources)
    return command.SerializeToString()


def adopt(units: Iterable[bytes], of: RunKey, run: RunKey) -> bytes:
    """Units of one line of a run are those of another, too."""
    command = node_pb2.NodeCommand()
    command.adopt.namespace, command.adopt.from_run, command.adopt.run = of.namespace, of.run, run.run
    command.adopt.units.extend(units)
    return command.SerializeToString()


def unshare(run: RunKey, place: str, units: Iterable[bytes]) -> bytes:
    """Delete units in a shared place."""
    return _unshare(run, place, units).SerializeToString()


def clear(run: RunKey, place: str, units: Iterable[bytes], *, every: bool) -> bytes:
    """Delete units in a shared place, or all of the run, and say when that is done."""
    command = _unshare(run, place, units)
    command.unshare.all, command.unshare.answer = every, True
    return command.SerializeToString()


def _unshare(run: RunKey, place: str, units: Iterable[bytes]) -> node_pb2.NodeCommand:
    command = node_pb2.NodeCommand()
    command.unshare.namespace, command.unshare.run, command.unshare.place = run.namespace, run.run, place
    command.unshare.units.extend(units)
    return command


def shared_places(places: Iterable[str]) -> bytes:
    """Other nodes reach these places, too."""
    command = node_pb2.NodeCommand()
    command.shared.places.extend(sorted(places))
    return command.SerializeToString()


def keep(run: RunKey, units: Iterable[bytes]) -> bytes:
    """The contents of these units go into the cache."""
    command = node_pb2.NodeCommand()
    command.keep.namespace, command.keep.run = run.namespace, run.run
    command.keep.units.extend(units)
    return command.SerializeToString()


def take(run: RunKey, task: bytes, outputs: Iterable[Output]) -> bytes:
    """Contents of the cache are what the task has made."""
    command = node_pb2.NodeCommand()
    command.take.namespace, command.take.run, command.take.task = run.namespace, run.run, task
    for output in outputs:
        command.take.contents.add(unit=output.unit.id, digest=output.unit.digest)
    return command.SerializeToString()


def end_run(
    run: RunKey, keep: Iterable[bytes], *, keep_shared: bool = False, sweep: bool = False, away: Iterable[bytes] = ()
) -> bytes:
    """Nothing of the run is needed but these units; `keep_shared`: and what lies in shared places.

    `sweep`: the node deletes there what others have put, too. `away`: of the units, those that go to object storage.
    """
    command = node_pb2.NodeCommand()
    command.end_run.namespace = run.namespace
    command.end_run.run = run.run
    command.end_run.keep.extend(keep)
    command.end_run.keep_shared = keep_shared
    command.end_run.sweep = sweep
    command.end_run.away.extend(away)
    return command.SerializeToString()


def _task_key(key: node_pb2.TaskKey, run: RunKey, task: bytes, attempt: int) -> None:
    key.namespace = run.namespace
    key.run = run.run
    key.task = task
    key.attempt = attempt


def _unit_key(key: node_pb2.UnitKey, run: RunKey, unit: Unit) -> None:
    key.namespace = run.namespace
    key.run = run.run
    key.unit = unit.id
