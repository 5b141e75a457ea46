"""What light tasks carry: their inputs' bytes out of the store to the worker, and what they have made back into it.

An output that is large after all is a file in the worker's directory, which is in memory: it is copied into the store.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.store import DiskStore
from cluster_agent.node.busy import SmallTask
from cluster_agent.node.directory import Made, TaskDirectory, missing
from cluster_agent.node.execution import outcome_of, result_of
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.works import Assignment, file_name
from cluster_agent.orders.messages import SMALL, Output, Result, UnitInfo
from cluster_agent.runtimes.base import Outcome, SmallEnd
from wire.digests import bytes_digest, unit_id


def inputs_of(store: DiskStore, task: Assignment) -> list[bytes] | None:
    """The bytes of the inputs; None if one has a file of its own all the same. DataError, OSError."""
    namespace, run, _, _ = task.key
    inputs = []
    for port, (unit,) in zip(task.work.inputs, task.order.inputs, strict=True):
        content = store.find(UnitKey(namespace, run, unit.id))
        if unit.digest and unit.digest != content.digest:
            raise DataError(f"unit {unit.id.hex()} on input {port.name} has other bytes here than it should have")
        if content.data is None:
            return None
        inputs.append(content.data)
    return inputs


def result_of_end(store: DiskStore, task: SmallTask, end: SmallEnd) -> Result:
    """What a task's end is told as; its outputs are in the store then."""
    assignment = task.assignment
    waited = max(0.0, time.monotonic() - task.given_at - end.seconds) if task.link < 0 else 0.0
    given = task.given._replace(queued_seconds=task.given.queued_seconds + waited)
    if end.failure is not None:
        return result_of(assignment, given, end.failure, ())
    outcome = Outcome(seconds=end.seconds, peak_memory=end.peak_memory)
    outputs = []
    try:
        for port, (_, name), data in zip(assignment.work.outputs, task.work.outputs, end.outputs, strict=True):
            if data is not None:
                outputs.append(_put(store, assignment.key, port.name, name, data))
            elif not port.optional:
                raise missing(port.name, name)
    except (DataError, OSError) as error:
        outcome = outcome_of(error)
    return result_of(assignment, given, outcome, outputs)


async def result_of_left(store: DiskStore, task: SmallTask, end: SmallEnd, left: Path) -> Result:
    """The same where outputs were left in the worker's directory, which is not needed any more then."""
    key, work, _ = task.assignment
    outcome = Outcome(seconds=end.seconds, peak_memory=end.peak_memory)
    outputs: list[Output] = []
    names = {port.name: left / "out" / file_name(port.name, port.format) for port in work.outputs}
    directory = TaskDirectory(left, outputs=names)
    try:
        for port, data in zip(work.outputs, end.outputs, strict=True):
            if data is not None:
                outputs.append(_put(store, key, port.name, names[port.name].name, data))
                continue
            for made in directory.made([port]):
                outputs.append(await _move(store, key, made))
    except (DataError, OSError) as error:
        outcome = outcome_of(error)
    return result_of(task.assignment, task.given, outcome, outputs)


def _put(store: DiskStore, key: TaskKey, port: str, name: str, data: bytes) -> Output:
    unit = unit_id(key.task, port, 0)
    digest = bytes_digest(data)
    store.put(UnitKey(key.namespace, key.run, unit), data, digest)
    return Output(port, 0, UnitInfo(unit, digest, len(data), name=name))


async def _move(store: DiskStore, key: TaskKey, made: Made) -> Output:
    """Bring a file from the worker's directory into the store."""
    unit = unit_id(key.task, made.port, made.index)
    path = made.path
    size = path.stat().st_size
    if size > SMALL:
        store.space.check(size)
        path = store.partial / f"{unit.hex()}.{key.attempt}"
        try:
            await asyncio.to_thread(shutil.copyfile, made.path, path)
            content = await store.commit(path, UnitKey(key.namespace, key.run, unit))
        except (DataError, OSError):
            path.unlink(missing_ok=True)
            raise
    else:
        content = await store.commit(path, UnitKey(key.namespace, key.run, unit))
    return Output(made.port, made.index, UnitInfo(unit, content.digest, content.size, name=made.name))
