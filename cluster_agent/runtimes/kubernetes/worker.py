"""A worker whose processes live in a pod: the process runtime's worker by way of the starter, and the pod's fate.

What ends a task in a pod may be the pod's end: it was evicted, deleted, killed for its memory. To the worker inside
that looks like a program that was killed. So before such a failure is told, it is found out what became of the pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from cluster_agent.runtimes.base import Job, Listener, Outcome, Row, Sink, SmallEnd, SmallJob, Worker, WorkerSpec
from cluster_agent.runtimes.kubernetes.api.reasons import Reason
from cluster_agent.runtimes.kubernetes.judging import failure_kind
from cluster_agent.runtimes.kubernetes.link import StarterLink
from cluster_agent.runtimes.kubernetes.manifest import memory_limit
from cluster_agent.runtimes.kubernetes.place import Place

_LEARN_SECONDS: Final = 10.0  # that a kubelet has to tell of a container's end
_NEARLY: Final = 0.8  # of its limit a process holds that is killed for it, as measured
_BY_THE_POD: Final = frozenset(["exit", "lost", "memory", "start"])  # kinds that a dying pod may be behind
_MEBIBYTE: Final = 1 << 20


class Fate:
    """What becomes of a pod that is used."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._known = asyncio.Event()

    def tell(self, reason: Reason) -> None:
        """It has ended, or will soon."""
        self.reason = self.reason or reason
        self._known.set()

    async def learn(self) -> Reason | None:
        """Why it has ended; None if nobody has told in time."""
        try:
            async with asyncio.timeout(_LEARN_SECONDS):
                await self._known.wait()
        except TimeoutError:
            return None
        return self.reason

    async def known(self) -> None:
        """Wait for its end."""
        await self._known.wait()


class End:
    """What was behind the end of something in a pod."""

    def __init__(self, link: StarterLink, spec: WorkerSpec, fate: Fate) -> None:
        self._link = link
        self._spec = spec
        self._fate = fate

    async def explained(self, outcome: Outcome) -> Outcome:
        """The outcome with the pod's end in it, if that was behind it."""
        if outcome.kind not in _BY_THE_POD:
            return outcome
        if self._link.present and self._fate.reason is None:
            return self._killed_for_memory(outcome)
        reason = await self._fate.learn()
        if reason is None:
            return replace(outcome, kind="lost", message="the pod's starter is gone, and nobody has told why")
        return lost(reason, outcome)

    def _killed_for_memory(self, outcome: Outcome) -> Outcome:
        """The kernel kills the process that takes most, and need not end the container; nobody else tells of it."""
        limit = memory_limit(self._spec)
        if outcome.kind != "lost" or not limit or outcome.peak_memory < _NEARLY * limit:
            return outcome
        message = f"was killed because its pod may take no more than {limit / _MEBIBYTE:g} MiB of memory"
        own = f"{self._spec.memory / _MEBIBYTE:g} MiB"
        return replace(outcome, kind="memory", message=f"{message} (the step's limit is {own})")


def lost(reason: Reason, outcome: Outcome) -> Outcome:
    """The outcome of what a pod has taken with it."""
    return replace(outcome, kind=failure_kind(reason), message=reason.text)


class PodWorker(Worker):
    """The worker in a pod, as its daemon knows it. `release` is called once, with whether the pod may be used again."""

    def __init__(
        self,
        inner: Worker,
        link: StarterLink,
        spec: WorkerSpec,
        place: Place,
        fate: Fate,
        release: Callable[[bool], Awaitable[None]],
    ) -> None:
        self.gone = asyncio.Event()
        self.pid = inner.pid
        self.root = place.tasks
        self._inner = inner
        self._link = link
        self._fate = fate
        self._end = End(link, spec, fate)
        self._release = release
        self._listener: Listener | None = None
        self._late: list[SmallJob] | None = None  # given after the one inside has died, before that was told
        self._telling: asyncio.Task[None] | None = None
        self._following = asyncio.create_task(self._follow())
        self._stopped = False

    @property
    def alive(self) -> bool:
        return self._inner.alive and self._fate.reason is None and self._late is None and not self._stopped

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        if self._fate.reason is not None:
            return lost(self._fate.reason, Outcome())
        return await self._explained(await self._inner.execute(job, sink))

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        reusable = not self._inner.alive or self._inner.current() is not None
        self._following.cancel()
        await self._inner.stop()
        await asyncio.gather(self._following, *([self._telling] if self._telling else []), return_exceptions=True)
        await self._release(reusable and self._fate.reason is None and self._link.present)

    # ------------------------------------------------------------------------------------------------ small jobs

    @property
    def takes_small(self) -> bool:
        return self._inner.takes_small

    @property
    def takes_rows(self) -> bool:
        return self.alive and self._inner.takes_rows

    def give(self, jobs: Sequence[SmallJob], listener: Listener, row: Row | None = None) -> None:
        self._listener = listener
        if self._late is not None:
            self._late += jobs
            return
        self._inner.give(jobs, self, row)

    def current(self) -> SmallJob | None:
        return self._inner.current()

    def take_back(self) -> Sequence[SmallJob]:
        late = self._late or []
        if late:
            self._late = []
        return [*self._inner.take_back(), *late]

    def go_on(self) -> None:
        self._inner.go_on()

    def hear(self) -> None:
        self._inner.hear()

    def ended(self, _worker: Worker, ends: Sequence[SmallEnd]) -> None:
        """See Listener; what the one inside says is said by us."""
        assert self._listener is not None
        self._listener.ended(self, ends)

    def died(self, _worker: Worker, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        """See Listener. Told when it is known what became of the pod."""
        self._late = []
        self._telling = asyncio.create_task(self._tell(job, outcome, others))

    async def _tell(self, job: SmallJob | None, outcome: Outcome, others: Sequence[SmallJob]) -> None:
        explained = await self._explained(outcome) if job is not None else outcome
        assert self._listener is not None
        late, self._late = self._late or [], []
        self._listener.died(self, job, explained, [*others, *late])

    # ---------------------------------------------------------------------------------------------------- inside

    async def _follow(self) -> None:
        """The worker is gone when the one inside is, or when its pod is about to end."""
        ends = [asyncio.create_task(self._inner.gone.wait()), asyncio.create_task(self._fate.known())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        self.gone.set()

    async def _explained(self, outcome: Outcome) -> Outcome:
        return await self._end.explained(outcome)


class PodSlot(PodWorker):
    """A slot of a service in a pod. What became of the pod is found out once, for the process and all of its tasks."""

    async def _explained(self, outcome: Outcome) -> Outcome:
        return outcome
