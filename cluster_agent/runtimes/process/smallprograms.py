"""The small jobs of a command worker, as its interpreter is given them and as their ends are told (see `programs`).

    SmallJob ─▶ its work, with the program's words for parameters ─▶ interpreter
    the program's wait status ─▶ the outcome that it would have with a directory of its own ─▶ Listener

Each job is wrapped, so that what its program said last is known when it has failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from cluster_agent.runtimes.base import Listener, Outcome, SmallEnd, SmallJob, SmallWork, WorkerSpec
from cluster_agent.runtimes.errors import TemplateError
from cluster_agent.runtimes.process.argv import fill
from cluster_agent.runtimes.process.link import Exit
from cluster_agent.runtimes.process.streams import LastWords
from cluster_agent.runtimes.process.worker.programs import ENDED, PROGRAM, ROOT

if TYPE_CHECKING:
    from cluster_agent.runtimes.base import Worker

_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
Judge = Callable[[Exit, float, str, str], Outcome]


class _Program(SmallJob):
    """A job as the interpreter has it."""

    __slots__ = ("job", "words")

    def __init__(self, job: SmallJob, work: SmallWork) -> None:
        super().__init__(work, job.task, job.attempt, job.inputs)
        self.job = job
        self.words: LastWords | None = None

    def write(self, stream: int, data: bytes) -> None:
        if self.words is None:
            self.words = LastWords()
        self.words.write(stream, data)
        self.job.write(stream, data)

    @property
    def said(self) -> str:
        """What it wrote to its standard error last."""
        return self.words.text(2) if self.words is not None else ""


class SmallPrograms:
    """Between whoever gives jobs to `worker` and its interpreter. `judge`: what an exit means."""

    def __init__(self, worker: Worker, interpreter: Worker, spec: WorkerSpec, judge: Judge) -> None:
        self._worker = worker
        self._interpreter = interpreter
        self._spec = spec
        self._judge = judge
        self._works: WeakKeyDictionary[SmallWork, SmallWork] = WeakKeyDictionary()
        self._listener: Listener | None = None

    def give(self, jobs: Sequence[SmallJob], listener: Listener) -> None:
        """See Worker."""
        self._listener = listener
        self._interpreter.give([_Program(job, self._work(job.work)) for job in jobs], self)

    def current(self) -> SmallJob | None:
        """See Worker."""
        current = self._interpreter.current()
        return cast(_Program, current).job if current is not None else None

    def take_back(self) -> Sequence[SmallJob]:
        """See Worker."""
        return [cast(_Program, program).job for program in self._interpreter.take_back()]

    def ended(self, _interpreter: Worker, ends: Sequence[SmallEnd]) -> None:
        """See Listener."""
        assert self._listener is not None
        self._listener.ended(self._worker, [self._end(end) for end in ends])

    def died(self, _interpreter: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        """See Listener."""
        assert self._listener is not None
        charged = cast(_Program, job).job if job is not None else None
        self._listener.died(self._worker, charged, outcome, [cast(_Program, other).job for other in others])

    def _work(self, work: SmallWork) -> SmallWork:
        """A work with the words of its program in place of parameters."""
        known = self._works.get(work)
        if known is None:
            inputs = {port: Path(ROOT, "in", name) for port, name in work.inputs}
            outputs = {port: Path(ROOT, "out", name) for port, name in work.outputs}
            program: list[object]
            try:
                words = fill(self._spec.argv, inputs, outputs, work.parameters, self._spec.bundle)
                program = [words, dict(self._spec.env)]
            except TemplateError as error:
                program = [str(error)]
            known = self._works[work] = SmallWork(work.env, work.inputs, work.outputs, {PROGRAM: program})
        return known

    def _end(self, end: SmallEnd) -> SmallEnd:
        """An end as it concerns the job: a program that has failed, as it would have with a directory on the disk.

        One that found no room in memory has not: it is told to be executed again, where there is more.
        """
        program = cast(_Program, end.job)
        failure = end.failure
        if failure is not None and failure.kind == ENDED:
            exited = Exit(int(failure.detail), end.peak_memory)
            if exited.code > 0 and _NO_ROOM.search(program.said):
                return SmallEnd(program.job, end.seconds, (), end.peak_memory, again=True)
            failure = self._judge(exited, end.seconds, program.said, failure.message)
        return end._replace(job=program.job, failure=failure)
