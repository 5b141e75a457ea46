"""Small jobs with one worker: many given ahead, each with its own end, its own words, and its own death.

    give ─▶ work, jobs ─▶ worker ─▶ done ─▶ Listener.ended
                            │ waits: it has printed, or left a large output, or was halted
                            ◀── go ── when its words were heard, or what it left was taken

What the worker has begun is known by the page that is shared with it. Whatever is read from its streams while it is
halted there belongs to that job: it begins no other in between, and a job that ends with unread words waits by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_agent.runtimes.base import Listener, Outcome, SmallEnd, SmallJob, SmallWork, WorkerSpec
from cluster_agent.runtimes.process.ending import with_limit
from cluster_agent.runtimes.process.pipe import Page, Pipe
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee
from cluster_agent.runtimes.process.worker import LEAVING, LEFT, NO_ROOM, WAITING, WORKS_KNOWN

if TYPE_CHECKING:
    from cluster_agent.runtimes.base import Worker


class SmallJobs:
    """Those that one worker has. Nothing here waits: all is told to the listener."""

    def __init__(self, worker: Worker, pipe: Pipe, page: Page, streams: Streams, spec: WorkerSpec) -> None:
        self._worker = worker
        self._pipe = pipe
        self._page = page
        self._streams = streams
        self._spec = spec
        self._home = Path()
        self._env: Mapping[str, str] = {}
        self._listener: Listener | None = None
        self._jobs: dict[int, SmallJob] = {}  # given and not ended, in order
        self._numbers = itertools.count(1)
        self._works: dict[SmallWork, int] = {}  # those that the worker knows, by the number it has there
        self._work_numbers = itertools.count()
        self._halted = False  # jobs were taken back, and the worker does not know yet
        self._later: list[SmallJob] = []  # given meanwhile
        self._speaker: SmallJob | None = None
        self._words = LastWords()
        streams.before, streams.after = self._before_words, self._after_words

    @property
    def outstanding(self) -> bool:
        """Whether any job has not ended."""
        return bool(self._jobs or self._later)

    def settle(self, home: Path, env: Mapping[str, str]) -> None:
        """Where the worker's own directory is, and the environment of all its tasks."""
        self._home = home
        temporary = str(home / "tmp")
        self._env = {**env, "HOME": temporary, "TMPDIR": temporary}

    def number(self) -> int:
        """For the next job of whatever kind."""
        return next(self._numbers)

    def give(self, jobs: Sequence[SmallJob], listener: Listener) -> None:
        """See Worker."""
        self._listener = listener
        if self._halted:
            self._later += jobs
            return
        if not self._jobs:
            self._streams.drain()  # what was said between tasks is nobody's
        told = []
        pieces: list[bytes] = []
        first = 0
        for job in jobs:
            number = next(self._numbers)
            first = first or number
            self._jobs[number] = job
            known = self._works.get(job.work)
            if known is None:
                known = self._introduce(job.work)
            told.append((known, job.task, job.attempt, [len(data) for data in job.inputs]))
            pieces += job.inputs
        self._pipe.send(("jobs", first, told), pieces)

    def current(self) -> SmallJob | None:
        """See Worker."""
        return self._jobs.get(self._page.at)

    def take_back(self) -> Sequence[SmallJob]:
        """See Worker."""
        self._page.halt()
        at = self._page.at
        numbers = [number for number in self._jobs if number > at]
        taken = [self._jobs.pop(number) for number in numbers] + self._later
        self._later = []
        if numbers:
            self._halted = True
        elif not self._halted:
            self._page.release()
        return taken

    def go_on(self) -> None:
        """See Worker."""
        self._page.release()
        self._pipe.send(("go", self._halted))
        self._halted = False
        if self._later and self._listener is not None:
            later, self._later = self._later, []
            self.give(later, self._listener)

    def done(self, message: Any, raw: bytes) -> None:
        """The worker says what it has done, and what it does next."""
        _, then, peak, answers = message
        assert self._listener is not None
        ends: list[SmallEnd] = []
        start = 0
        for number, microseconds, outputs, failure in answers:
            job = self._jobs.pop(number)
            seconds = microseconds / 1e6
            if failure is not None:
                ends.append(self._failed(job, seconds, peak, failure))
                continue
            content: list[bytes | None] = []
            for size in outputs:
                content.append(raw[start : start + size] if size >= 0 else None)
                start += max(size, 0)
            left = self._home / f"{job.task}.{job.attempt}" if LEFT in outputs else None
            ends.append(SmallEnd(job, seconds, content, peak, None, left))
        if ends and then == WAITING:
            self._listen(ends[-1].job)
            self._streams.drain()
        self._listener.ended(self._worker, ends)
        if then == WAITING and not (ends and ends[-1].left):
            self.go_on()
        elif then == LEAVING:
            self._end_all(None, Outcome())

    def died(self, outcome: Callable[[LastWords], Outcome]) -> None:
        """The worker is dead; `outcome` of its last words. All that it had said was heard."""
        job = self.current() or next(iter(self._jobs.values()), None)
        self._listen(job)
        self._streams.drain()
        self._end_all(job, outcome(self._words))

    # ---------------------------------------------------------------------------------------------------- inside

    def _introduce(self, work: SmallWork) -> int:
        """Tell the worker of a work; it forgets the one that had the number before."""
        number = next(self._work_numbers) % WORKS_KNOWN
        for known in [known for known, former in self._works.items() if former == number]:
            del self._works[known]
        self._works[work] = number
        told = {
            "env": {**self._env, **work.env},
            "inputs": work.inputs,
            "outputs": work.outputs,
            "parameters": dict(work.parameters),
        }
        self._pipe.send(("work", number, told))
        return number

    def _failed(self, job: SmallJob, seconds: float, peak: int, failure: dict[str, str]) -> SmallEnd:
        kind = failure["kind"]
        if kind == NO_ROOM or (kind == "disk" and not self._spec.disk):
            return SmallEnd(job, seconds, (), peak, again=True)
        message = with_limit(kind, failure["message"], self._spec)
        return SmallEnd(job, seconds, (), peak, Outcome(kind, message, failure["detail"], seconds, peak))

    def _end_all(self, job: SmallJob | None, outcome: Outcome) -> None:
        others = [other for other in self._jobs.values() if other is not job] + self._later
        self._jobs.clear()
        self._later = []
        if self._listener is not None and (job is not None or others):
            self._listener.died(self._worker, job, outcome, others)

    # ----------------------------------------------------------------------------------------------------- words

    def _before_words(self) -> None:
        if self._jobs:
            self._page.halt()
            self._listen(self.current())

    def _after_words(self) -> None:
        if self._jobs and not self._halted:
            self._page.release()

    def _listen(self, job: SmallJob | None) -> None:
        """What is read from now on is the words of this job."""
        if job is self._speaker and job is not None:
            return
        self._speaker = job
        self._words = LastWords()
        self._streams.sink = self._words if job is None else Tee(job, self._words)
