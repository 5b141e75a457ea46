"""A program that watches a directory, as a worker: its files are put there, its results are taken away.

    sandbox/ code/ in/ work/ out/    what it is told, each an absolute path; in a pod `/in` and so on
    coming/                          copies that are being made; they go to `in` by a rename, so that none is seen half

It is started as `ENTRY… POLL SANDBOX CODE IN WORK OUT - - ARGUMENTS…`, once for many tasks: the two dashes stand for
the queues that it reads and writes where there are some, and here it polls. Only where a task's parameters make other
arguments than the one before it is started again. It gets one task at a time, so that all that appears in `out` is that
task's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker, WorkerSpec, last_bytes
from cluster_agent.runtimes.directories.core import DirectoryCore, Done, Left, Look, Seen, Unfinished
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.process.argv import fill
from cluster_agent.runtimes.process.ending import (
    GRACE_SECONDS,
    describe_exit,
    kind_of_end,
    program_limit,
    timed_out,
    with_limit,
)
from cluster_agent.runtimes.process.home import Home, empty
from cluster_agent.runtimes.process.link import Child, Exit, Slot, SpawnerLink
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee

PARTS: Final = ("sandbox", "in", "work", "out")  # that are the worker's own
_CODE: Final = "code"
_COMING: Final = "coming"
_NO_QUEUE: Final = "-"
_TASK_DIGITS: Final = 16


class DirectoryWorker(Worker):
    """Made by `start`. The program runs from then on, unless its arguments are of a task."""

    def __init__(
        self, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str], home: Home, seen: Mapping[str, str]
    ) -> None:
        assert spec.watching is not None
        self.gone = asyncio.Event()
        self._link = link
        self._spec = spec
        self._watching = spec.watching
        self._env = env
        self._home = home
        self._seen = seen
        self._usable = True
        self._stopped = False
        self._words: list[str] = []  # the program's
        self._said = LastWords()
        self._streams: Streams | None = None
        self._slot: Slot | None = None
        self._child: Child | None = None

    @classmethod
    async def start(
        cls,
        link: SpawnerLink,
        spec: WorkerSpec,
        env: Mapping[str, str],
        home: Home,
        seen: Mapping[str, str] | None = None,
    ) -> DirectoryWorker:
        """Start the program, if that needs no task. StartError. `seen`: its directories as the program sees them."""
        paths = dict(seen) if seen is not None else {part: str(home.root / part) for part in PARTS}
        worker = cls(link, spec, env, home, paths)
        try:
            await asyncio.to_thread(worker._make)
            fill(spec.argv, {}, {}, {}, spec.bundle)
            if not any("{param." in word for word in worker._watching.arguments):
                worker._run({})
        except (OSError, TemplateError) as error:
            await worker.stop()
            raise StartError(str(error), final=isinstance(error, TemplateError)) from None
        except BaseException:
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        return self._usable and self._link.alive and not self.gone.is_set()

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        words = LastWords()
        try:
            await self._ready(job)
        except (StartError, TemplateError) as error:
            self._usable = False
            return Outcome("start", str(error), last_bytes(self._said.text(2)))
        assert self._streams is not None
        self._streams.drain()  # what was said between tasks is nobody's
        self._streams.sink = Tee(sink, words)
        try:
            outcome = await self._watched(job, words)
        except BaseException:
            self._usable = False
            await self.stop()
            raise
        finally:
            if self._streams is not None:
                self._streams.sink = self._said
        self._usable = self._usable and not outcome.kind  # what it does now with a task that it has failed is not known
        return outcome

    async def stop(self) -> None:
        self._usable = False
        await self._end(signal.SIGKILL)
        if not self._stopped:
            self._stopped = True
            await self._home.remove()

    # ----------------------------------------------------------------------------------------------- the program

    def _make(self) -> None:
        for part in (*PARTS, _COMING):
            (self._home.root / part).mkdir(exist_ok=True)
        (self._home.root / _CODE).mkdir(exist_ok=True)  # of a program that has none

    def _line(self, parameters: Mapping[str, object]) -> list[str]:
        """The words that the program is started with. TemplateError."""
        watching, bundle = self._watching, self._spec.bundle
        code = watching.code or self._seen.get(_CODE) or str(bundle or self._home.root / _CODE)
        return [
            *fill(self._spec.argv, {}, {}, {}, bundle),
            f"{watching.poll:g}",
            self._seen["sandbox"],
            code,
            self._seen["in"],
            self._seen["work"],
            self._seen["out"],
            _NO_QUEUE,
            _NO_QUEUE,
            *fill(watching.arguments, {}, {}, parameters, None),
        ]

    async def _ready(self, job: Job) -> None:
        """Have the program run with a task's arguments. StartError, TemplateError."""
        child = self._child
        if child is None or child.exit.done() or self._line(job.parameters) != self._words:
            await self._end(signal.SIGTERM)
            self._run(job.parameters)

    def _run(self, parameters: Mapping[str, object]) -> None:
        """Start the program. StartError, TemplateError."""
        spec = self._spec
        self._words = self._line(parameters)
        sandbox = self._seen["sandbox"]
        env = {**self._env, **dict(spec.env), "HOME": sandbox, "TMPDIR": sandbox}
        self._streams = Streams(self._said)
        self._slot = self._link.slot(env, self._streams.child_ends)
        self._child = child = self._slot.execute(self._words, {}, sandbox, program_limit(spec), spec.disk)
        child.exit.add_done_callback(lambda _: self.gone.set() if self._child is child else None)

    async def _end(self, which: signal.Signals) -> None:
        """End the program, if there is one, in order or at once."""
        child, self._child = self._child, None
        if child is not None:
            child.send_signal(which)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await asyncio.shield(child.exit)
            child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.exit)
        if self._slot is not None and self._streams is not None:
            self._slot.close()
            self._streams.close()
        self._slot = self._streams = None

    # --------------------------------------------------------------------------------------------------- a task

    async def _watched(self, job: Job, words: LastWords) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()
        child = self._child
        assert child is not None
        assert self._streams is not None
        try:
            await asyncio.to_thread(self._put, job)
            async with asyncio.timeout(job.timeout or None):
                ended = await self._until_done(child)
        except TimeoutError:
            self._usable = False
            await self._end(signal.SIGTERM)
            return timed_out(job.timeout, loop.time() - began, words)
        self._streams.drain()
        seconds = loop.time() - began
        if ended is not None:
            return self._judge(child.exit.result(), ended, seconds, words.text(2))
        await asyncio.to_thread(self._take, job)
        return Outcome(seconds=seconds)

    async def _until_done(self, child: Child) -> str | None:
        """Wait for the end of the task; if the program has ended and left it as it is, in which state."""
        loop = asyncio.get_running_loop()
        core = DirectoryCore(self._watching.poll, self._watching.settle, written=self._watching.written)
        while True:
            over = child.exit.done()
            look = await asyncio.to_thread(self._look)
            if over and child.exit.result().status:
                return ""
            found = core.handle(Left(look) if over else Seen(look), loop.time())
            match found:
                case Done():
                    return None
                case Unfinished(why):
                    return why
            await asyncio.wait([child.exit], timeout=found.at - loop.time())

    def _put(self, job: Job) -> None:
        """Copy the task's files, or directories, and let them appear. Blocks; OSError.

        They are copies, since a program may do as it likes with a file that it has claimed. Their names begin with the
        task's, as some programs remember what they have seen.
        """
        root = self._home.root
        for part in ("in", "work", "out", _COMING):
            empty(root / part)
        prefix = _prefix(job)
        [given] = job.inputs.values()
        several = [given] if isinstance(given, Path) else given
        coming = []
        for path in several:
            copy = root / _COMING / f"{prefix}{path.name}"
            if path.is_dir():
                shutil.copytree(path, copy, copy_function=_copy)
            else:
                shutil.copyfile(path, copy)
            coming.append(copy)
        for copy in coming:
            copy.rename(root / "in" / copy.name)

    def _look(self) -> Look:
        """What lies there now. Blocks."""
        return Look(*(_files(self._home.root / part) for part in ("in", "work", "out")))

    def _take(self, job: Job) -> None:
        """Move the results to the task's output. Blocks; OSError.

        The task's mark is taken off their names: what is made of the same is to be called the same.
        """
        prefix = _prefix(job)
        results = [entry for entry in (self._home.root / "out").iterdir() if not entry.name.startswith(".")]
        taken = {"", *(entry.name for entry in results)}
        for target in job.outputs.values():
            if results:
                target.mkdir()
            for entry in results:
                name = entry.name.removeprefix(prefix)
                shutil.move(entry, target / (entry.name if name in taken else name))

    def _judge(self, exited: Exit, state: str, seconds: float, said: str) -> Outcome:
        if exited.error:
            return Outcome("start", exited.error)
        kind = kind_of_end(exited, said, self._spec) if exited.status else "exit"
        message = f"the program {describe_exit(exited)}" + (f" {state}" if state else "")
        return Outcome(kind, with_limit(kind, message, self._spec), last_bytes(said), seconds, exited.peak_memory)


def _prefix(job: Job) -> str:
    """What the names of a task's files begin with while they are the program's."""
    return f"{job.env.get('BDW_FED_TASK', '')[:_TASK_DIGITS] or 'task'}-"


def _copy(source: str, target: str) -> None:
    """A file that the program may write to, and execute if it could."""
    shutil.copyfile(source, target)
    Path(target).chmod(Path(source).stat().st_mode | 0o200)


def _files(directory: Path) -> dict[str, tuple[int, ...]]:
    """All files in a directory, by their paths below it. What goes while we look is left out."""
    found: dict[str, tuple[int, ...]] = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                found[str(path.relative_to(directory))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
