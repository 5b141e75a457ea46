"""Rows: a chain that stays in one worker is executed there without a word between its tasks.

Where a task's only consequence is a small task for the same workers, whose id is known before it has run (ids are
digests of what they are), the worker is given both, and as many more as it does in some milliseconds. Each begins
when the one before has made its input and that is as safe as the run asks for; no message, and no switch to another
process, lies in between.

    T ─▶ T's unit ─▶ N1 ─▶ N1's unit ─▶ N2 …      given together, ended one by one, told some at a time

If the daemon dies, what the row has done is found in the worker's file: it is put into the store and the journal as if
it had been heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.works import Assignment, follower
from cluster_agent.orders.messages import Output, Result, UnitInfo
from cluster_agent.runtimes.base import LeftRow
from wire.digests import bytes_digest, unit_id


class _Said(msgspec.Struct, array_like=True):
    """What is written of a row before it begins: its run, and of each task id, attempt, out ports with their files."""

    namespace: str
    run: str
    tasks: list[tuple[bytes, int, tuple[tuple[str, str], ...]]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Said)


def followers(first: Assignment, most: int, known: Callable[[TaskKey], bool]) -> list[tuple[int, Assignment]]:
    """The tasks of the row that begins with `first`, at most so many: each with the number of the output it gets.

    What their inputs are is not known yet but for the units' ids.
    """
    row: list[tuple[int, Assignment]] = []
    task = first
    while len(row) < most and len(task.work.follow) == 1:
        ((port, after),) = task.work.follow.items()
        if after.pool is None or after.pool != task.work.pool or after.small is None or len(after.inputs) != 1:
            break
        task_after = follower(after, UnitInfo(unit_id(task.key.task, port, 0), b"", 0))
        if known(task_after.key):
            break
        row.append((next(index for index, out in enumerate(task.work.outputs) if out.name == port), task_after))
        task = task_after
    return row


def describe(row: Sequence[Assignment]) -> bytes:
    """What `recover` needs to know."""
    tasks = []
    for task in row:
        assert task.work.small is not None
        tasks.append((task.key.task, task.key.attempt, task.work.small.outputs))
    return _encoder.encode(_Said(row[0].key.namespace, row[0].key.run, tasks))


def recover(store: DiskStore, left: Sequence[LeftRow]) -> None:
    """Take what an earlier daemon's workers had done and it has not heard of into the store. OSError."""
    known = {(namespace, run, result.task, result.attempt) for namespace, run, result in store.journal.results()}
    found = False
    for row in left:
        said = _decoder.decode(row.row)
        ends = list(zip(said.tasks, row.ends, strict=False))
        for number, ((task, attempt, ports), (seconds, contents)) in enumerate(ends, 1):
            if (said.namespace, said.run, task, attempt) in known:
                continue
            outputs = []
            for (port, name), data in zip(ports, contents, strict=True):
                if data is not None:
                    unit = UnitInfo(unit_id(task, port, 0), bytes_digest(data), len(data), name=name)
                    key = UnitKey(said.namespace, said.run, unit.id)
                    if not store.holds(key):  # else it is what counts, whatever is there
                        store.put(key, data, unit.digest)
                    outputs.append(Output(port, 0, unit))
            size = sum(output.unit.size for output in outputs)
            result = Result(task, attempt, tuple(outputs), seconds=seconds, bytes_out=size, followed=number < len(ends))
            store.journal.result(said.namespace, said.run, result)
            found = True
    if found:
        store.save()
