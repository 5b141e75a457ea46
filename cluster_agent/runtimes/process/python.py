"""A warm interpreter as the daemon sees it: one process that calls a function for one task after another.

A job with a directory of its own is one `run`, awaited. Small jobs are given many at a time, see `small`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster_agent.orders.messages import SMALL
from cluster_agent.runtimes.base import Job, Listener, Outcome, Row, Sink, SmallJob, Worker, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.ending import GRACE_SECONDS, describe_exit, timed_out, with_limit
from cluster_agent.runtimes.process.keep import Keep, Keeps
from cluster_agent.runtimes.process.link import Child, Exit, SpawnerLink
from cluster_agent.runtimes.process.pipe import Pipe, Shared
from cluster_agent.runtimes.process.places import Place, Places
from cluster_agent.runtimes.process.small import SmallJobs
from cluster_agent.runtimes.process.spawner.orphans import MARK
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee
from cluster_agent.runtimes.process.worker.failures import MISSING
from cluster_agent.runtimes.process.worker.frames import LEAVING, answers

_Message = Any


class PythonWorker(Worker):
    """Made by `start`. Memory is limited to what the spec says beyond the interpreter with its modules."""

    def __init__(
        self,
        child: Child,
        connection: socket.socket,
        streams: Streams,
        spec: WorkerSpec,
        env: Mapping[str, str],
        places: Places | None,
        keeps: Keeps | None,
    ) -> None:
        self.gone = asyncio.Event()
        self._child = child
        self._streams = streams
        self._spec = spec
        self._env = {**env, MARK: child.mark}
        self._places = places
        self._place: Place | None = None
        self._keeps = keeps
        self._keep: Keep | None = keeps.take() if keeps is not None and places is not None else None
        self._shared = Shared()
        self._pipe = Pipe(connection, self._heard, self._cut)
        self._small = SmallJobs(self, self._pipe, self._shared, streams, spec, self._keep)
        self._answer: asyncio.Future[_Message] | None = None  # what is awaited; None as its result: the worker is dead
        self._usable = True
        self._stopped = False
        child.exit.add_done_callback(lambda _: self.gone.set())

    @classmethod
    async def start(
        cls,
        link: SpawnerLink,
        spec: WorkerSpec,
        env: Mapping[str, str],
        places: Places | None = None,
        keeps: Keeps | None = None,
    ) -> PythonWorker:
        """Fork an interpreter and import the step's module; StartError with the module's own words.

        Without `places` it takes no small jobs, without `keeps` no rows.
        """
        words = LastWords()
        ours, theirs = socket.socketpair()
        streams = Streams(words)
        environment = {**env, **dict(spec.env)}
        child = link.start({"function": spec.function, "env": environment}, [*streams.child_ends, theirs.detach()])
        worker = cls(child, ours, streams, spec, environment, places, keeps)
        try:
            worker.pid = await child.pid
            answer = await worker._warm()
        except BaseException as error:
            child.pid.cancel()
            await worker.stop()
            if isinstance(error, OSError):
                raise StartError(f"{spec.function} could not be started: {error}") from None
            raise
        streams.drain()
        if answer is None:
            exited = await child.exit
            streams.drain()
            await worker.stop()
            raise StartError(f"{spec.function}: {describe_exit(exited)} while it was imported", words.text(2))
        if answer[0] == "failed":
            await worker.stop()
            told = answer[1]
            raise StartError(f"{spec.function}: {told['message']}", told["detail"], final=told["kind"] == MISSING)
        return worker

    @property
    def alive(self) -> bool:
        return self._usable and not self.gone.is_set()

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        words = LastWords()
        self._streams.drain()  # what was said between tasks is nobody's
        self._streams.sink = Tee(sink, words)
        try:
            return await self._execute(job, words)
        except BaseException:
            self._usable = False
            await self.stop()
            raise
        finally:
            self._streams.drain()
            self._streams.sink = LastWords()

    @property
    def takes_small(self) -> bool:
        return self._places is not None

    @property
    def takes_rows(self) -> bool:
        return self._small.takes_rows

    def give(self, jobs: Sequence[SmallJob], listener: Listener, row: Row | None = None) -> None:
        self._small.give(jobs, listener, row)

    def current(self) -> SmallJob | None:
        return self._small.current()

    def take_back(self) -> Sequence[SmallJob]:
        return self._small.take_back()

    def go_on(self) -> None:
        self._small.go_on()

    def hear(self) -> None:
        self._small.hear()

    async def stop(self) -> None:
        self._usable = False
        self._pipe.close()
        if self._child.pid.done() and not self._child.pid.cancelled() and self._child.pid.exception() is None:
            self._child.send_signal(signal.SIGKILL)
            await asyncio.shield(self._child.exit)
        if self._stopped:
            return
        self._stopped = True
        self._streams.close()
        self._shared.close()
        if self._keeps is not None and self._keep is not None:
            self._keeps.give_back(self._keep)
        if self._places is not None and self._place is not None:
            await self._places.remove(self._place)

    async def _warm(self) -> _Message:
        """What the worker says when it has imported the step; None if it died."""
        if self._places is not None:
            self._place = self._places.make()
            self._small.settle(self._place.home)
        kept = [self._keep.descriptor] if self._keep is not None else []
        self._pipe.pass_descriptors([self._shared.descriptor, *kept])
        self._shared.passed()
        warm = {
            "function": self._spec.function,
            "bundle": str(self._spec.bundle) if self._spec.bundle else "",
            "memory": self._spec.memory,
            "disk": self._spec.disk,
            "env": self._env,
            "place": str(self._place.home) if self._place else "",
            "small": SMALL,
        }
        return await self._ask(warm)

    async def _execute(self, job: Job, words: LastWords) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()
        order = {
            "directory": str(job.directory),
            "env": dict(job.env),
            "inputs": {
                port: str(at) if isinstance(at, Path) else [str(path) for path in at] for port, at in job.inputs.items()
            },
            "outputs": {port: str(path) for port, path in job.outputs.items()},
            "parameters": dict(job.parameters),
            "values": job.values.told,
        }
        try:
            async with asyncio.timeout(job.timeout or None):
                answer = await self._ask(["run", self._small.number(), order])
        except TimeoutError:
            self._usable = False
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await asyncio.shield(self._child.exit)
            await self.stop()
            return timed_out(job.timeout, loop.time() - began, words)
        if answer is None:
            self._usable = False
            exited = await asyncio.shield(self._child.exit)
            self._streams.drain()
            return ended_by(exited, words, loop.time() - began)
        _, then, most, raw = answer
        if then == LEAVING:
            self._usable = False
        [(_, seconds, [peak], failure)] = answers(raw)
        if failure is None:
            return Outcome(seconds=seconds, peak_memory=peak or most)
        message = with_limit(failure["kind"], failure["message"], self._spec)
        return Outcome(failure["kind"], message, failure["detail"], seconds, peak or most, failure.get("code", 0))

    async def _ask(self, message: _Message) -> _Message:
        """The worker's answer; None if it died."""
        if not self._pipe.open:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._pipe.send(message)
            return await self._answer
        finally:
            self._answer = None

    def _heard(self, message: _Message, raw: bytes) -> None:
        if self._answer is not None:
            if not self._answer.done():
                self._answer.set_result([*message, raw])
            return
        if message[1] == LEAVING:
            self._usable = False
        self._small.done(message, raw)

    def _cut(self) -> None:
        """The worker will say no more: it is dead, or about to be."""
        self._usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        if self._small.outstanding:
            self._child.exit.add_done_callback(self._died)

    def _died(self, exit: asyncio.Future[Exit]) -> None:
        if not self._stopped:
            self._small.died(lambda words: ended_by(exit.result(), words, 0.0))


def ended_by(exited: Exit, words: LastWords, seconds: float) -> Outcome:
    """The outcome of a task whose worker has died under it."""
    kind = "lost" if exited.signal == signal.SIGKILL else "exit"
    said = last_bytes(words.text(2))
    return Outcome(kind, f"the worker {describe_exit(exited)}", said, seconds, exited.peak_memory, exited.code)
