"""A `command` step: a program of its own for each task; the worker is no more than the right to start one."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Mapping

from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.process.argv import check, fill
from cluster_agent.runtimes.process.ending import GRACE_SECONDS, describe_exit, timed_out, with_limit
from cluster_agent.runtimes.process.link import Child, Exit, Slot, SpawnerLink
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee

_PROGRAM_BYTES = 64 << 20  # of address space for a program and its libraries, beyond what its task may use
_NO_MEMORY = re.compile(r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc|memory exhausted")
_NO_SPACE = re.compile(r"File too large|File size limit exceeded|No space left on device")


class CommandWorker(Worker):
    """Ready at once; TemplateError's message as a StartError if its arguments can't be filled in.

    All its tasks write to the same pipes: what a task leaves behind is dead before its end is told, and if there was
    any such thing the pipes are not used again.
    """

    def __init__(self, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str]) -> None:
        try:
            check(spec.argv)
        except TemplateError as error:
            raise StartError(str(error)) from None
        self.gone = link.gone
        self._link = link
        self._spec = spec
        self._env = {**env, **dict(spec.env)}
        self._streams: Streams | None = None
        self._slot: Slot | None = None

    @property
    def alive(self) -> bool:
        return self._link.alive

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
        memory = spec.memory + _PROGRAM_BYTES if spec.memory else 0
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
        return self._judge(exited, seconds, words, argv[0])

    async def stop(self) -> None:
        """Nothing runs between tasks."""
        self._close()

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

    def _judge(self, exited: Exit, seconds: float, words: LastWords, program: str) -> Outcome:
        if exited.error:
            return Outcome("start", exited.error)
        if exited.status == 0:
            return Outcome(seconds=seconds, peak_memory=exited.peak_memory)
        said = last_bytes(words.text(2))
        kind = "exit"
        if exited.signal == signal.SIGKILL:
            kind = "lost"
        elif exited.signal == signal.SIGXFSZ or (self._spec.disk and _NO_SPACE.search(said)):
            kind = "disk"
        elif self._spec.memory and (_NO_MEMORY.search(said) or exited.peak_memory >= self._spec.memory):
            kind = "memory"
        message = with_limit(kind, f"{program} {describe_exit(exited)}", self._spec)
        return Outcome(kind, message, said, seconds, exited.peak_memory)
