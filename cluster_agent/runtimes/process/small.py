"""Small jobs with one worker: many given ahead, each with its own end, its own words, and its own death.

    give ─▶ work, jobs ─▶ worker ─▶ done ─▶ Listener.ended
                            │ waits: it has printed, or left a large output, or was halted
                            ◀── go ── when its words were heard, or what it left was taken

Of a row the jobs behind one that has not made their input are dropped, here as there.

What the worker has begun is known by the memory that is shared with it. Whatever is read from its streams while it is
halted there belongs to that job: it begins no other in between, and a job that ends with unread words waits by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_agent.runtimes.base import Listener, Outcome, Row, SmallEnd, SmallJob, SmallWork, WorkerSpec
from cluster_agent.runtimes.process.ending import with_limit
from cluster_agent.runtimes.process.keep import Keep
from cluster_agent.runtimes.process.pipe import NO_LIMIT, Pipe, Shared
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee
from cluster_agent.runtimes.process.worker.failures import NO_ROOM
from cluster_agent.runtimes.process.worker.frames import LEAVING, LEFT, WAITING, WORKS_KNOWN, answers, frame

if TYPE_CHECKING:
    from cluster_agent.runtimes.base import Worker


class SmallJobs:
    """Those that one worker has. Nothing here waits: all is told to the listener."""

    def __init__(
        self, worker: Worker, pipe: Pipe, shared: Shared, streams: Streams, spec: WorkerSpec, keep: Keep | None
    ) -> None:
        self._worker = worker
        self._keep = keep
        self._pipe = pipe
        self._shared = shared
        self._streams = streams
        self._spec = spec
        self._home = Path()
        self._temporary = ""
        self._listener: Listener | None = None
        self._jobs: dict[int, SmallJob] = {}  # given and not ended, in order
        self._numbers = itertools.count(1)
        self._works: dict[SmallWork, int] = {}  # those that the worker knows, by the number it has there
        self._numbered: dict[int, SmallWork] = {}
        self._work_numbers = itertools.count()
        self._halted = False  # jobs were taken back, and the worker does not know yet
        self._last = NO_LIMIT  # number of the last one before those: the worker is at it, or just about to begin it
        self._later: list[SmallJob] = []  # given meanwhile
        self._speaker: SmallJob | None = None
        self._words = LastWords()
        streams.before, streams.after = self._before_words, self._after_words

    @property
    def outstanding(self) -> bool:
        """Whether any job has not ended."""
        return bool(self._jobs or self._later)

    def settle(self, home: Path) -> None:
        """Where the worker's own directory is."""
        self._home = home
        self._temporary = str(home / "tmp")

    def number(self) -> int:
        """For the next job of whatever kind."""
        return next(self._numbers)

    @property
    def takes_rows(self) -> bool:
        """Whether it can be given a row: not while what it is given has to wait."""
        return self._keep is not None and not self._halted

    def give(self, jobs: Sequence[SmallJob], listener: Listener, row: Row | None = None) -> None:
        """See Worker."""
        kept = None
        if row is not None:
            assert self._keep is not None
            kept = (*self._keep.begin(row.said, row.durable), row.durable)
        self._listener = listener
        if self._halted:
            self._later += jobs
            return
        if not self._jobs:
            self._streams.drain()  # what was said between tasks is nobody's
        told = []
        pieces: list[bytes] = []
        frames: list[bytes] = []
        first = 0
        for job in jobs:
            number = next(self._numbers)
            first = first or number
            self._jobs[number] = job
            known = self._works.get(job.work)
            if known is None:
                known, introduction = self._introduce(job.work)
                frames.append(introduction)
            sizes = [len(data) for data in job.inputs] if job.link < 0 else job.link
            told.append((known, job.task, job.attempt, sizes))
            pieces += job.inputs
        self._pipe.send_frames((*frames, frame(("jobs", first, told, kept), pieces)))

    def current(self) -> SmallJob | None:
        """See Worker."""
        return self._jobs.get(self._shared.at)

    def take_back(self) -> Sequence[SmallJob]:
        """See Worker."""
        self._shared.halt()
        at = self._shared.at
        numbers = [number for number in self._jobs if number > at]
        taken = [self._jobs.pop(number) for number in numbers] + self._later
        self._later = []
        if numbers:
            self._halted, self._last = True, at
        elif not self._halted:
            self._shared.release()
        return taken

    def go_on(self) -> None:
        """See Worker."""
        self._shared.release()
        self._pipe.send(("go", self._last))
        self._halted, self._last = False, NO_LIMIT
        if self._later and self._listener is not None:
            later, self._later = self._later, []
            self.give(later, self._listener)

    def done(self, message: Any, raw: bytes) -> None:
        """The worker says what it has done, and what it does next."""
        _, then, peak = message
        ends = self._ends(raw, peak)
        if ends and then == WAITING:
            self._listen(ends[-1].job)
            self._streams.drain()
        self._tell(ends)
        if then == WAITING and not (ends and ends[-1].left):
            self.go_on()
        elif then == LEAVING:
            self._end_all(None, Outcome())

    def hear(self) -> None:
        """See Worker. What it is at, or has not got beyond, is not heard: it may have to wait for us then."""
        if self._jobs:
            self._tell(self._ends(self._shared.unsent(), 0, self._shared.at))

    def died(self, outcome: Callable[[LastWords], Outcome]) -> None:
        """The worker is dead; `outcome` of its last words. All that it had said was heard."""
        self.hear()
        job = self.current() or next(iter(self._jobs.values()), None)
        self._listen(job)
        self._streams.drain()
        self._end_all(job, outcome(self._words))

    # ---------------------------------------------------------------------------------------------------- inside

    def _ends(self, raw: bytes, peak: int, before: int = NO_LIMIT) -> list[SmallEnd]:
        """The ends that we have not heard yet, of jobs before a number."""
        ends: list[SmallEnd] = []
        for number, seconds, outputs, failure in answers(raw):
            job = self._jobs.pop(number, None) if number < before else None
            if job is None:
                continue
            if failure is not None:
                ends.append(self._failed(job, seconds, peak, failure))
                self._unlink(number + 1, ())
                continue
            left = self._home / f"{job.task}.{job.attempt}" if LEFT in outputs else None
            content = [data if isinstance(data, bytes) else None for data in outputs]
            ends.append(SmallEnd(job, seconds, content, peak, None, left))
            self._unlink(number + 1, () if left else content)
        return ends

    def _unlink(self, number: int, outputs: Sequence[bytes | None]) -> None:
        """Drop what is linked to outputs that are not there, and what is linked to that."""
        job = self._jobs.get(number)
        if job is None or job.link < 0 or (job.link < len(outputs) and outputs[job.link] is not None):
            return
        while job is not None and job.link >= 0:
            del self._jobs[number]
            number += 1
            job = self._jobs.get(number)

    def _tell(self, ends: list[SmallEnd]) -> None:
        if self._speaker is not None and self._speaker not in self._jobs.values():
            self._listen(None)
        if ends and self._listener is not None:
            self._listener.ended(self._worker, ends)

    def _introduce(self, work: SmallWork) -> tuple[int, bytes]:
        """The number that the worker knows a work by from now on, and how it is told; a former one is forgotten."""
        number = next(self._work_numbers) % WORKS_KNOWN
        former = self._numbered.get(number)
        if former is not None:
            del self._works[former]
        self._works[work] = number
        self._numbered[number] = work
        told = {
            "env": {**work.env, "HOME": self._temporary, "TMPDIR": self._temporary},
            "inputs": work.inputs,
            "outputs": work.outputs,
            "parameters": dict(work.parameters),
            "values": work.values.told,
        }
        return number, frame(("work", number, told))

    def _failed(self, job: SmallJob, seconds: float, peak: int, failure: dict[str, str]) -> SmallEnd:
        kind = failure["kind"]
        if kind == NO_ROOM or (kind == "disk" and not self._spec.disk):
            return SmallEnd(job, seconds, (), peak, again=True)
        message = with_limit(kind, failure["message"], self._spec)
        code = int(failure.get("code", 0))
        return SmallEnd(job, seconds, (), peak, Outcome(kind, message, failure["detail"], seconds, peak, code))

    def _end_all(self, job: SmallJob | None, outcome: Outcome) -> None:
        others = [other for other in self._jobs.values() if other is not job] + self._later
        self._jobs.clear()
        self._later = []
        if self._listener is not None and (job is not None or others):
            self._listener.died(self._worker, job, outcome, others)

    # ----------------------------------------------------------------------------------------------------- words

    def _before_words(self) -> None:
        if self._jobs:
            self._shared.halt()
            self._listen(self.current())

    def _after_words(self) -> None:
        if self._jobs and not self._halted:
            self._shared.release()

    def _listen(self, job: SmallJob | None) -> None:
        """What is read from now on is the words of this job."""
        if job is self._speaker and job is not None:
            return
        self._speaker = job
        self._words = LastWords()
        self._streams.sink = self._words if job is None else Tee(job, self._words)
