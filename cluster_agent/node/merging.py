"""Executes merge tasks inside the daemon: a thread writes the one file, which becomes the task's unit.

The units are linked into the task's directory as for any other task, in the order in which the coordinator has put
them. What the thread reads is checked afterwards: a unit that was damaged on the disk is made again, and only what is
wrong as it was made fails the run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.merge import merge
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import TaskDirectory
from cluster_agent.node.splitting import still_sound
from cluster_agent.node.works import Assignment
from cluster_agent.orders.messages import Output, UnitInfo
from wire.digests import unit_id

PORT = "out"


async def merge_units(assignment: Assignment, directory: TaskDirectory, store: DiskStore, executor: Executor) -> Output:
    """The unit that the task makes. DataError, OSError, ValueError."""
    key, work, order = assignment
    told = work.execution.merge
    port = work.outputs[0].name if work.outputs else PORT
    units = [unit for units in order.inputs for unit in units]
    paths: list[Path] = []
    for linked in directory.inputs.values():
        paths += linked if isinstance(linked, Sequence) else [linked]
    named = [(unit.name or unit.id.hex(), path) for unit, path in zip(units, paths, strict=True)]
    target = directory.temporary / "merged"
    stopped = threading.Event()
    thread = asyncio.get_running_loop().run_in_executor(executor, merge, named, told.format, target, stopped.is_set)
    try:
        merged = await asyncio.shield(thread)
    except WrongContentError:
        for unit in units:
            await still_sound(store, UnitKey(key.namespace, key.run, unit.id), unit)
        raise
    finally:
        stopped.set()
        await asyncio.wait([thread])
        thread.exception()  # was raised, or is of no interest any more
    directory.unchanged()
    made = unit_id(key.task, port, 0)
    await store.commit(target, UnitKey(key.namespace, key.run, made), merged.digest)
    await store.durable()
    return Output(port, 0, UnitInfo(made, merged.digest, merged.size, name=told.name or _name(port, named)))


def _name(port: str, named: Sequence[tuple[str, Path]]) -> str:
    """Called after the port, with the ending of what was put together."""
    return f"{port}{PurePosixPath(named[0][0]).suffix}" if named else port
