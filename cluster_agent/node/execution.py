"""One attempt of a task from its directory to its units: what runs while the core says that it is running.

    Assignment ─▶ directory with inputs ─▶ worker ─▶ Outcome ─▶ outputs into the store ─▶ Result

This is the way of large units, of lists of units, of splits and merges, of programs with limits, and of whatever has a
limit of time or disk; `small` is the other. Nothing here raises but on cancellation: whatever goes wrong becomes the
failure in the result, in words for people.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import ContentChangedError, DataError, NoSpaceError, WrongContentError
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import Directories, Made, MissingOutputError, TaskDirectory
from cluster_agent.node.logs import LogName, Logs
from cluster_agent.node.merging import merge_units
from cluster_agent.node.messages import Given
from cluster_agent.node.packing import packed_output, unpack_input
from cluster_agent.node.splitting import split
from cluster_agent.node.windows import Windows
from cluster_agent.node.works import Assignment
from cluster_agent.node.writing import learn_size, writing_to_memory
from cluster_agent.orders.messages import Failure, Output, Result, UnitInfo
from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker
from wire.digests import unit_id

_DISK_CHECK_SECONDS = 1.0
_MOST_OUTPUTS = 60_000  # that a result can tell of: a message has at most 16 MiB
_MEGABYTE = 1 << 20
_NOT_OF_DISK = frozenset(("timeout", "memory", "lost", "data"))
FULL = "full"  # the kind of failure of who meets a full disk: it has done nothing wrong, and waits for room


@dataclass(frozen=True)
class Surroundings:
    """What an execution needs of the daemon; `splitters` are the threads of the built-in kinds, `windows` of splits."""

    directories: Directories
    store: DiskStore
    logs: Logs
    splitters: Executor
    windows: Windows = field(default_factory=Windows)


class Execution:
    """One attempt. `run` returns its result; `tell` is called with the units of a task that still runs."""

    def __init__(
        self,
        assignment: Assignment,
        given: Given,
        around: Surroundings,
        worker: Worker | None,
        tell: Callable[[list[Output]], None],
        directories: Directories | None = None,
    ) -> None:
        """`directories` are those of the worker, where it does not see all."""
        self.assignment = assignment
        self.worker = worker  # None for the built-in kinds
        self.units: list[Output] = []
        self._given = given
        self._around = around
        self._tell = tell
        self._directories = directories or around.directories
        self._confined = directories is not None

    async def run(self) -> Result:
        """Execute the task."""
        outcome = await self._outcome()
        if not outcome.kind and len(self.units) > _MOST_OUTPUTS:
            message = f"the task made {len(self.units)} units, more than one task's result can tell of"
            outcome = Outcome("output", f"{message}; put many small files into fewer, larger ones")
        return result_of(self.assignment, self._given, outcome, self.units)

    async def _outcome(self) -> Outcome:
        try:
            directory = self._directories.make(self.assignment.key)
        except (DataError, OSError) as error:
            outcome = outcome_of(error)
            return replace(outcome, message=f"the task's directory could not be made: {error}")
        try:
            return await self._within(directory)
        finally:
            self._directories.recycle(directory)

    async def _within(self, directory: TaskDirectory) -> Outcome:
        key, _, order = self.assignment
        inputs = [UnitKey(key.namespace, key.run, unit.id) for units in order.inputs for unit in units]
        try:
            await self._around.store.assure(inputs)
            if self._confined:  # such a worker does not see datasets' files where they lie
                for unit in inputs:
                    await self._around.store.own(unit)
            else:
                directory.writing = writing_to_memory(self._around.store, self.assignment)
            directory.fill(self._around.store, self.assignment)
            for packed in directory.packed:
                await unpack_input(packed, self._around.store, self.assignment.key)
            if self.worker is None:
                return await self._built_in(directory)
            outcome = self._judged(await self._work(self.worker, directory))
            if not outcome.kind:
                await self._collect(directory)
        except (DataError, OSError) as error:
            return outcome_of(error)
        finally:
            if directory.writing is not None:
                directory.writing.end()
        return outcome

    def _judged(self, outcome: Outcome) -> Outcome:
        """A task that failed for want of disk and has no limit of its own met a full disk, whoever filled that."""
        if not outcome.kind or outcome.kind in _NOT_OF_DISK:
            return outcome
        limited = self.assignment.work.resources.disk > 0
        if (outcome.kind == "disk" and not limited) or self._around.store.space.is_crammed():
            free = self._around.store.space.free()
            return replace(outcome, kind=FULL, message=f"{outcome.message} ({free} bytes of its node's disk were left)")
        return outcome

    # ----------------------------------------------------------------------------------------------------- workers

    async def _work(self, worker: Worker, directory: TaskDirectory) -> Outcome:
        key, work, _ = self.assignment
        job = Job(
            directory.root,
            directory.inputs,
            directory.outputs,
            work.parameters,
            self._environment(directory),
            work.timeout,
            work.values,
        )
        log = self._around.logs.open(LogName(key.namespace, key.run, work.step, key.task, key.attempt))
        try:
            return await self._within_quota(worker, job, log, directory)
        finally:
            log.close()

    async def _within_quota(self, worker: Worker, job: Job, log: Sink, directory: TaskDirectory) -> Outcome:
        """The worker's outcome; or failure once all files of the task together are larger than it may write."""
        limit = self.assignment.work.resources.disk
        if not limit and directory.writing is None:
            return await worker.execute(job, log)
        running = asyncio.create_task(worker.execute(job, log))
        ended: Outcome | None = None
        try:
            while not ended and not (await asyncio.wait([running], timeout=_DISK_CHECK_SECONDS))[0]:
                ended = await self._too_much(directory, limit)
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        if running.cancelled():
            assert ended is not None
            return ended
        outcome = running.result()
        return outcome if outcome.kind or not limit else await self._too_much(directory, limit) or outcome

    async def _too_much(self, directory: TaskDirectory, limit: int) -> Outcome | None:
        """What is wrong with what the task has written so far."""
        if limit and await asyncio.to_thread(directory.written) > limit:
            return Outcome("disk", f"the task wrote too much (its limit is {limit / _MEGABYTE:g} MiB)")
        writing = directory.writing
        if writing is not None and writing.overflows(await asyncio.to_thread(directory.written_to_memory)):
            return Outcome("room", "its outputs are too large for the memory of the node; they go to its disk")
        return None

    def _environment(self, directory: TaskDirectory) -> dict[str, str]:
        key, work, _ = self.assignment
        temporary = str(directory.temporary)
        return {
            **work.environment,
            "HOME": temporary,
            "TMPDIR": temporary,
            "BDW_FED_TASK": key.task.hex(),
            "BDW_FED_ATTEMPT": str(key.attempt),
        }

    async def _collect(self, directory: TaskDirectory) -> None:
        """Move the outputs into the store."""
        directory.unchanged()
        key, work, _ = self.assignment
        for made in directory.made(work.outputs):
            unit = unit_id(key.task, made.port, made.index)
            async with self._as_file(made) as file:
                content = await self._around.store.commit(file, UnitKey(key.namespace, key.run, unit))
            info = UnitInfo(unit, content.digest, content.size, name=made.name)
            self.units.append(Output(made.port, made.index, info))
        learn_size(self._around.store, self.assignment, self.units)

    def _as_file(self, made: Made) -> AbstractAsyncContextManager[Path]:
        """What the store is to take over."""
        if made.whole:
            return packed_output(made, self._around.store, self.assignment.key)
        return nullcontext(made.path)

    # ---------------------------------------------------------------------------------------------------- built in

    async def _built_in(self, directory: TaskDirectory) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def tell(outputs: list[Output]) -> None:
            self.units += outputs
            self._tell(outputs)

        store, threads = self._around.store, self._around.splitters
        try:
            if self.assignment.work.kind == "merge":
                self.units.append(await merge_units(self.assignment, directory, store, threads))
            else:
                with self._around.windows.opened(self.assignment.key, self.assignment.order.most, store) as window:
                    await split(self.assignment, directory, store, threads, tell, window)
        except ValueError as error:
            return Outcome("internal", str(error))
        return Outcome(seconds=loop.time() - began)


def outcome_of(error: DataError | OSError) -> Outcome:
    """What it means for a task that its inputs or outputs met with this."""
    if isinstance(error, (MissingOutputError, ContentChangedError)):
        return Outcome("output", str(error))
    if isinstance(error, WrongContentError):
        return Outcome("content", str(error))
    if isinstance(error, NoSpaceError):
        return Outcome(FULL, str(error))
    if isinstance(error, DataError):
        return Outcome("data", str(error))
    return Outcome(FULL if is_full(error) else "internal", str(error))


def is_full(error: OSError) -> bool:
    """Whether the node's disk has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def result_of(assignment: Assignment, given: Given, outcome: Outcome, outputs: Sequence[Output]) -> Result:
    """How an attempt ended, as it is told; `outputs` count only if it ended well."""
    made = () if outcome.kind else tuple(outputs)
    return Result(
        assignment.key.task,
        assignment.key.attempt,
        made,
        Failure(outcome.kind, outcome.message, outcome.detail, outcome.code) if outcome.kind else None,
        outcome.seconds,
        given.queued_seconds,
        given.start_seconds,
        outcome.peak_memory,
        assignment.bytes_in,
        sum([output.unit.size for output in made]),
    )
