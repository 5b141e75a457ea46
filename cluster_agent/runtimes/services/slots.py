"""Slots of service processes as workers: each that is asked for is one in a process that has room, or in a new one.

    daemon ── start ─▶ Services ─▶ Slot ─┐
    daemon ── start ─▶ Services ─▶ Slot ─┴▶ ServiceProcess ─▶ the program

So for everybody above us a slot is a worker like any other: it takes one task at a time, is warm, idle, stopped. The
process starts for its first slot, while the next ones already wait for it, and ends with its last.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker, WorkerSpec
from cluster_agent.runtimes.services.process import ServiceProcess

_MOST_SUSPECTS: Final = 10_000


@dataclass(frozen=True)
class Held:
    """A process that is up. `release` is called when it is gone again: whether it had died, not been stopped.

    `fits`: whether what it is in lasts; `wrap`: what is made of a slot, so that its worker knows of that.
    """

    process: ServiceProcess
    release: Callable[[bool], Awaitable[None]]
    fits: Callable[[], bool] = lambda: True
    wrap: Callable[[Worker], Worker] = lambda slot: slot


class _Shared:
    """A process and how many of its slots are somebody's."""

    def __init__(self, starting: asyncio.Task[Held]) -> None:
        self.starting = starting
        self.taken = 0

    @property
    def held(self) -> Held | None:
        """What came of its start, if it is up."""
        done = self.starting.done() and not self.starting.cancelled() and self.starting.exception() is None
        return self.starting.result() if done else None

    @property
    def usable(self) -> bool:
        """Whether it is on its way, or takes tasks."""
        held = self.held
        return not self.starting.done() or (held is not None and held.process.alive and held.fits())


class Services:
    """The service processes of a runtime."""

    def __init__(self) -> None:
        self._processes: dict[WorkerSpec, list[_Shared]] = {}
        self._suspects: OrderedDict[tuple[str, str, str], None] = OrderedDict()  # tasks that are executed alone

    async def slot(self, spec: WorkerSpec, start: Callable[[], Awaitable[Held]]) -> Worker:
        """A slot of a process of this spec, which `start` starts if it must. StartError."""
        shared = self._with_room(spec)
        if shared is None:
            shared = _Shared(asyncio.create_task(_started(start)))
            self._processes.setdefault(spec, []).append(shared)
        shared.taken += 1
        try:
            held = await asyncio.shield(shared.starting)
        except BaseException:
            await self._leave(spec, shared)
            raise
        return held.wrap(Slot(self, held.process, lambda: self._leave(spec, shared)))

    def is_suspect(self, job: Job) -> bool:
        """Whether it may have killed a service, so that it is executed alone."""
        return _key(job) in self._suspects

    def suspect(self, job: Job, *, it_is: bool) -> None:
        """Remember that; or that the end of the task has told."""
        self._suspects.pop(_key(job), None)
        if it_is:
            self._suspects[_key(job)] = None
            while len(self._suspects) > _MOST_SUSPECTS:
                self._suspects.popitem(last=False)

    def _with_room(self, spec: WorkerSpec) -> _Shared | None:
        """The fullest process that has a slot to give, so that others empty."""
        assert spec.service is not None
        slots = spec.service.slots
        found = [one for one in self._processes.get(spec, ()) if one.taken < slots and one.usable]
        return max(found, key=lambda one: one.taken, default=None)

    async def _leave(self, spec: WorkerSpec, shared: _Shared) -> None:
        shared.taken -= 1
        if shared.taken:
            return
        others = self._processes[spec]
        others.remove(shared)
        if not others:
            del self._processes[spec]
        if not shared.starting.done():
            shared.starting.cancel()
        await asyncio.gather(shared.starting, return_exceptions=True)
        held = shared.held
        if held is not None:
            died = held.process.gone.is_set()
            await held.process.stop()
            await held.release(died)


async def _started(start: Callable[[], Awaitable[Held]]) -> Held:
    return await start()


def _key(job: Job) -> tuple[str, str, str]:
    env = job.env
    return env.get("BDW_FED_NAMESPACE", ""), env.get("BDW_FED_RUN", ""), env.get("BDW_FED_TASK", "")


class Slot(Worker):
    """One slot of a service process."""

    def __init__(self, services: Services, process: ServiceProcess, leave: Callable[[], Awaitable[None]]) -> None:
        self.gone = process.gone
        self._process = process
        self._services = services
        self._leave = leave
        self._stopped = False

    @property
    def alive(self) -> bool:
        return self._process.alive and not self._stopped

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        ended = await self._process.execute(job, sink, alone=self._services.is_suspect(job))
        self._services.suspect(job, it_is=ended.suspect)
        return ended.outcome

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await self._leave()
