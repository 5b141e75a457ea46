"""Executes split tasks inside the daemon: a thread cuts, the event loop commits and tells, part by part.

The thread is at most `_AHEAD` parts ahead of the store, so that a large input does not fill the disk twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import Store, UnitKey
from cluster_agent.data.split import Part, SplitSpec, write_parts
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.produced import produced
from wire.digests import unit_id

PORT = "out"
_AHEAD = 16


async def split(
    key: TaskKey,
    order: node_pb2.StartTask,
    directory: Path,
    store: Store,
    executor: Executor,
    tell: Callable[[node_pb2.ProducedUnit], None],
) -> list[node_pb2.ProducedUnit]:
    """All units that the task makes; each is told as soon as it is in the store. DataError, OSError, ValueError."""
    loop = asyncio.get_running_loop()
    port = order.outputs[0].name if order.outputs else PORT
    told = order.execution.split.split
    spec = SplitSpec(told.size, told.lines, told.count, told.header)
    stopped = threading.Event()
    room = threading.Semaphore(_AHEAD)
    parts: asyncio.Queue[Part | None] = asyncio.Queue()
    made: list[node_pb2.ProducedUnit] = []
    for unit in (unit for port_units in order.inputs for unit in port_units.units):
        source = directory / unit.id.hex()
        store.link(UnitKey(key.namespace, key.run, unit.id), source)
        first = len(made)

        def cut(source: Path = source) -> None:
            try:
                for part in write_parts(source, spec, lambda number: directory / str(number), stopped.is_set):
                    while not room.acquire(timeout=1):
                        if stopped.is_set():
                            return
                    loop.call_soon_threadsafe(parts.put_nowait, part)
            finally:
                loop.call_soon_threadsafe(parts.put_nowait, None)

        cutting = loop.run_in_executor(executor, cut)
        try:
            while (part := await parts.get()) is not None:
                index = first + part.index
                name = UnitKey(key.namespace, key.run, unit_id(key.task, port, index))
                content = await store.commit(part.path, name, part.digest)
                room.release()
                made.append(produced(key.task, port, index, content, part_name(unit, index)))
                tell(made[-1])
        finally:
            stopped.set()
            await asyncio.wait([cutting])
        cutting.result()
        stopped.clear()
    return made


def part_name(unit: model_pb2.Unit, index: int) -> str:
    """flights.csv -> flights-00003.csv"""
    path = PurePosixPath(unit.name or "part")
    return f"{path.stem}-{index:05}{path.suffix}"
