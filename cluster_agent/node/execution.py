"""One attempt of a task from its directory to its units: what runs while the core says that it is running.

    StartTask ─▶ directory with inputs ─▶ worker ─▶ Outcome ─▶ outputs into the store ─▶ durable ─▶ TaskFinished

Nothing here raises but on cancellation: whatever goes wrong becomes the failure in the result, in words for people.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import ContentChangedError, DataError, NoSpaceError
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import Directories, MissingOutputError, TaskDirectory
from cluster_agent.node.logs import LogName, Logs
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.produced import produced
from cluster_agent.node.splitting import split
from cluster_agent.orders.messages import Output
from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker
from wire.digests import unit_id

_DISK_CHECK_SECONDS = 1.0
_RESULT_BYTES = 8 << 20  # a message has at most 16 MiB
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Surroundings:
    """What an execution needs of the daemon; `splitters` are the threads of the built-in split."""

    directories: Directories
    store: DiskStore
    logs: Logs
    splitters: Executor
    cluster: str
    node: str


class Execution:
    """One attempt. `run` returns its result; `tell` is called with the units of a task that still runs."""

    def __init__(
        self,
        key: TaskKey,
        order: node_pb2.StartTask,
        around: Surroundings,
        worker: Worker | None,
        tell: Callable[[node_pb2.ProducedUnit], None],
    ) -> None:
        self.worker = worker  # None for the built-in kinds
        self.key = key
        self.order = order
        self.around = around
        self.tell = tell
        self.units: list[node_pb2.ProducedUnit] = []

    async def run(self) -> node_pb2.TaskFinished:
        """Execute the task."""
        outcome = await self._outcome()
        if not outcome.kind:
            try:
                await self.around.store.durable()
            except OSError as error:
                outcome = Outcome("disk", f"the store could not be synced: {error}", seconds=outcome.seconds)
        return self._result(outcome)

    async def _outcome(self) -> Outcome:
        try:
            directory = self.around.directories.make(self.key)
        except (DataError, OSError) as error:
            return Outcome("disk", f"the task's directory could not be made: {error}")
        try:
            return await self._within(directory)
        finally:
            self.around.directories.recycle(directory)

    async def _within(self, directory: TaskDirectory) -> Outcome:
        try:
            directory.fill(self.key, self.around.store, self.order)
            if self.worker is None:
                return await self._split(directory)
            outcome = await self._work(self.worker, directory)
            if not outcome.kind:
                await self._collect(directory)
        except MissingOutputError as error:
            return Outcome("output", str(error))
        except ContentChangedError as error:
            return Outcome("output", str(error))
        except NoSpaceError as error:
            return Outcome("disk", str(error))
        except DataError as error:
            return Outcome("data", str(error))
        except OSError as error:
            kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "internal"
            return Outcome(kind, str(error))
        return outcome

    # ----------------------------------------------------------------------------------------------------- workers

    async def _work(self, worker: Worker, directory: TaskDirectory) -> Outcome:
        key, order = self.key, self.order
        parameters = json.loads(order.parameters_json or "{}")
        job = Job(
            directory.root,
            directory.inputs,
            directory.outputs,
            parameters,
            self._environment(directory),
            order.timeout,
        )
        log = self.around.logs.open(LogName(key.namespace, key.run, order.step, key.task, key.attempt))
        try:
            return await self._within_quota(worker, job, log, directory)
        finally:
            log.close()

    async def _within_quota(self, worker: Worker, job: Job, log: Sink, directory: TaskDirectory) -> Outcome:
        """The worker's outcome; or failure once all files of the task together are larger than it may write."""
        limit = self.order.resources.disk
        if not limit:
            return await worker.execute(job, log)
        running = asyncio.create_task(worker.execute(job, log))
        try:
            while not (await asyncio.wait([running], timeout=_DISK_CHECK_SECONDS))[0]:
                if await asyncio.to_thread(directory.written) > limit:
                    break
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        too_much = Outcome("disk", f"the task wrote too much (its limit is {limit / _MEGABYTE:g} MiB)")
        if running.cancelled():
            return too_much
        outcome = running.result()
        return too_much if not outcome.kind and directory.written() > limit else outcome

    def _environment(self, directory: TaskDirectory) -> dict[str, str]:
        key = self.key
        temporary = str(directory.temporary)
        return {
            "HOME": temporary,
            "TMPDIR": temporary,
            "BDW_FED_TASK": key.task.hex(),
            "BDW_FED_RUN": key.run,
            "BDW_FED_STEP": self.order.step,
            "BDW_FED_ATTEMPT": str(key.attempt),
            "BDW_FED_NAMESPACE": key.namespace,
        }

    async def _collect(self, directory: TaskDirectory) -> None:
        """Move the outputs into the store."""
        directory.unchanged()
        key = self.key
        for made in directory.made(self.order.outputs):
            name = UnitKey(key.namespace, key.run, unit_id(key.task, made.port, made.index))
            content = await self.around.store.commit(made.path, name)
            self.units.append(produced(key.task, made.port, made.index, content, made.name))

    # ---------------------------------------------------------------------------------------------------- built in

    async def _split(self, directory: TaskDirectory) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()

        def tell(outputs: list[Output]) -> None:
            for made in outputs:
                unit = model_pb2.Unit(
                    id=made.unit.id, digest=made.unit.digest, size=made.unit.size, name=made.unit.name
                )
                self.units.append(node_pb2.ProducedUnit(port=made.port, index=made.index, unit=unit))
                self.tell(self.units[-1])

        try:
            place = directory.temporary
            await split(self.key, self.order, place, self.around.store, self.around.splitters, tell)
        except ValueError as error:
            return Outcome("internal", str(error))
        return Outcome(seconds=loop.time() - began)

    # ------------------------------------------------------------------------------------------------------ results

    def _result(self, outcome: Outcome) -> node_pb2.TaskFinished:
        who = self.around.cluster, self.around.node
        result = finished(self.key, self.order, outcome, [] if outcome.kind else self.units, *who)
        if result.ByteSize() > _RESULT_BYTES:
            message = f"the task made {len(self.units)} units, more than one task's result can tell of"
            outcome = Outcome("output", f"{message}; put many small files into fewer, larger ones")
            result = finished(self.key, self.order, outcome, [], *who)
        return result


def finished(
    key: TaskKey,
    order: node_pb2.StartTask,
    outcome: Outcome,
    units: Sequence[node_pb2.ProducedUnit],
    cluster: str,
    node: str,
) -> node_pb2.TaskFinished:
    """The result of an attempt as it is told."""
    result = node_pb2.TaskFinished(
        key=order.key,
        outputs=units,
        execution_seconds=outcome.seconds,
        peak_memory=outcome.peak_memory,
        bytes_in=sum(unit.size for told in order.inputs for unit in told.units),
        bytes_out=sum(unit.unit.size for unit in units),
    )
    if outcome.kind:
        failure = result.failure
        failure.step, failure.task, failure.attempt = order.step, key.task, key.attempt
        failure.cluster, failure.node = cluster, node
        failure.kind, failure.message, failure.detail = outcome.kind, outcome.message, outcome.detail
    return result
