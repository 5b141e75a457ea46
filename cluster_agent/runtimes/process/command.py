"""A `command` step: a program of its own for each task.

A task with a directory of its own has its program started by the spawner. Small jobs are given many at a time, to an
interpreter that does nothing but execute them (see `programs`): inputs, outputs and directories are its business then,
as they are for `python` steps. A step whose programs have limits has no such interpreter, and takes no small jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster_agent.runtimes.base import Job, Listener, Outcome, Row, Sink, SmallJob, Worker, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.process.argv import check, fill
from cluster_agent.runtimes.process.ending import (
    GRACE_SECONDS,
    describe_exit,
    kind_of_end,
    program_limit,
    timed_out,
    with_limit,
)
from cluster_agent.runtimes.process.link import Child, Exit, Slot, SpawnerLink
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.python import PythonWorker
from cluster_agent.runtimes.process.smallprograms import SmallPrograms
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee
from cluster_agent.runtimes.process.worker.programs import FUNCTION


class CommandWorker(Worker):
    """Made by `start`.

    All its tasks write to the same pipes: what a task leaves behind is dead before its end is told, and if there was
    any such thing the pipes are not used again.
    """

    def __init__(
        self, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str], interpreter: PythonWorker | None
    ) -> None:
        self.gone = interpreter.gone if interpreter is not None else link.gone
        self.pid = interpreter.pid if interpreter is not None else 0
        self._link = link
        self._interpreter = interpreter
        self._small = SmallPrograms(self, interpreter, spec, self._judge) if interpreter is not None else None
        self._spec = spec
        self._env = {**env, **dict(spec.env)}
        self._streams: Streams | None = None
        self._slot: Slot | None = None

    @classmethod
    async def start(
        cls, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str], places: Places | None = None
    ) -> CommandWorker:
        """Check the arguments, and start what small jobs need. StartError. Without `places` it takes none of them."""
        try:
            check(spec.argv)
        except TemplateError as error:
            raise StartError(str(error), final=True) from None
        interpreter = None
        if places is not None and not (spec.memory or spec.disk):
            own = replace(spec, argv=(), function=FUNCTION, bundle=None)
            interpreter = await PythonWorker.start(link, own, env, places)
        return cls(link, spec, env, interpreter)

    @property
    def alive(self) -> bool:
        return self._link.alive and (self._interpreter is None or self._interpreter.alive)

    @property
    def takes_small(self) -> bool:
        return self._small is not None

    def give(self, jobs: Sequence[SmallJob], listener: Listener, row: Row | None = None) -> None:
        assert self._small is not None and row is None
        self._small.give(jobs, listener)

    def current(self) -> SmallJob | None:
        return self._small.current() if self._small is not None else None

    def take_back(self) -> Sequence[SmallJob]:
        return self._small.take_back() if self._small is not None else ()

    def go_on(self) -> None:
        assert self._interpreter is not None
        self._interpreter.go_on()

    def hear(self) -> None:
        if self._interpreter is not None:
            self._interpreter.hear()

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        spec = self._spec
        try:
            argv = fill(spec.argv, job.inputs, job.outputs, job.parameters, spec.bundle)
        except TemplateError as error:
            return Outcome("start", str(error))
        loop = asyncio.get_running_loop()
        began = loop.time()
        words = LastWords()
        slot, streams = self._opened()
        streams.sink = Tee(sink, words)
        own = {name for name, _ in spec.env}
        env = {name: value for name, value in job.env.items() if name not in own}
        memory = program_limit(spec)
        try:
            child = slot.execute(argv, env, str(job.directory), memory, spec.disk)
        except StartError as error:
            return Outcome("start", str(error))
        try:
            exited, in_time = await self._end_of(child, job.timeout)
        except asyncio.CancelledError:
            child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.exit)
            raise
        finally:
            streams.drain()
            streams.sink = LastWords()  # between tasks there is nobody to hear
            if not child.exit.done() or child.exit.result().strays:
                self._close()  # what is still written there is nobody's
        seconds = loop.time() - began
        if not in_time:
            return timed_out(job.timeout, seconds, words)
        return self._judge(exited, seconds, words.text(2), argv[0])

    async def stop(self) -> None:
        self._close()
        if self._interpreter is not None:
            await self._interpreter.stop()

    def _opened(self) -> tuple[Slot, Streams]:
        if self._slot is None or self._streams is None:
            self._streams = Streams(LastWords())
            self._slot = self._link.slot(self._env, self._streams.child_ends)
        return self._slot, self._streams

    def _close(self) -> None:
        if self._slot is not None and self._streams is not None:
            self._slot.close()
            self._streams.close()
        self._slot = self._streams = None

    async def _end_of(self, child: Child, timeout: float) -> tuple[Exit, bool]:
        """How the child ended, and whether it did so in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout or None):
                return await asyncio.shield(child.exit), True
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                return await asyncio.shield(child.exit), False
        child.send_signal(signal.SIGKILL)
        return await asyncio.shield(child.exit), False

    def _judge(self, exited: Exit, seconds: float, words: str, program: str) -> Outcome:
        if exited.error:
            return Outcome("start", exited.error)
        if exited.status == 0:
            return Outcome(seconds=seconds, peak_memory=exited.peak_memory)
        said = last_bytes(words)
        kind = kind_of_end(exited, said, self._spec)
        message = with_limit(kind, f"{program} {describe_exit(exited)}", self._spec)
        return Outcome(kind, message, said, seconds, exited.peak_memory, exited.code)
