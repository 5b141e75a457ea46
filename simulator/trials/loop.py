"""An asyncio loop on virtual time, so that the production drivers run as they are: waiting costs nothing.

What is ready runs in the order in which it became so; when nothing is, time jumps to the next timer. There are no
sockets and no threads: what asks for a thread is called at a later virtual moment. While `virtual` is entered, the
clocks of the standard library and its chance are the loop's too.

Each simulated process is a `Process`: the tasks that it makes are known by it, and a kill ends them all at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from asyncio import base_events
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, cast
from unittest import mock

from cluster_agent.link import backoff

EPOCH = 1_800_000_000.0  # Unix time when virtual time is 0
SYNC_SECONDS = 0.004  # of what would be done in a thread, which is mostly a sync
_current: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Killed(BaseException):
    """The process was killed at this very instruction."""


class StuckError(Exception):
    """Nothing can ever happen any more, and somebody waits."""


class Process:
    """One simulated process. `skew`: seconds by which its wall clock is wrong."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.skew = 0.0
        self.ended: Callable[[BaseException | None], None] = lambda _: None
        self.at_kill: list[Callable[[], None]] = []
        self._loop = loop
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Begin. `ended` is called with what ended it, unless it was killed."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        task = self._loop.create_task(main, context=context)
        task.add_done_callback(self._done)

    def run_part(self, part: Coroutine[Any, Any, None]) -> None:
        """A task of this process that somebody from outside has caused."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        self._loop.create_task(part, context=context)

    def owns(self, task: asyncio.Task[Any]) -> None:
        """A task of this process."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def kill(self) -> None:
        """As SIGKILL does: from here on nothing of it reaches anybody."""
        if not self.alive:
            return
        self.alive = False
        for call in self.at_kill:
            call()
        for task in list(self._tasks):
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.alive:
            self.kill()
            self.ended(error)


class VirtualLoop(base_events.BaseEventLoop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._under_way: dict[asyncio.Task[Any], None] = {}
        self.events = 0  # callbacks that were called
        self._selector = self  # the loop is its own: `select` is where it would wait
        self.set_task_factory(cast(Any, _make_task))
        self.set_exception_handler(self._unhandled)
        self.errors: list[tuple[str, BaseException | None]] = []

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it is done: what a killed process is still busy with nobody else knows of.

        The garbage collector would find it, and say so, whenever it happens to look.
        """
        self._under_way[task] = None
        task.add_done_callback(lambda done: self._under_way.pop(done, None))

    _ready: Any

    def select(self, timeout: float | None) -> list[object]:
        """Nothing is ready, if `timeout` is not 0: time goes on to the next timer."""
        self.events += len(self._ready)
        if timeout is None:
            raise StuckError("nothing is due, and nothing can become so")
        self._now += timeout
        return []

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, _executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call it after a moment."""
        future: asyncio.Future[Any] = self.create_future()
        process = _current.get()

        def do() -> None:
            if process is not None and not process.alive and random.random() < 0.5:
                return  # it was killed in the middle: what it was doing is whole, or was never done
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            except Killed:
                return
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(SYNC_SECONDS, do)
        return future

    def _unhandled(self, _loop: object, context: dict[str, Any]) -> None:
        self.errors.append((context["message"], context.get("exception")))


def process() -> Process | None:
    """The simulated process that runs now."""
    return _current.get()


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, context=context)
    cast(VirtualLoop, loop).hold(task)
    owner = context.get(_current) if context is not None else _current.get()
    if owner is not None:
        owner.owns(task)
        if not owner.alive:
            task.cancel()
    return task


@contextmanager
def virtual(seed: object) -> Iterator[VirtualLoop]:
    """A loop, with the clocks and the chance of the standard library bound to it. One at a time, in one thread."""
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(f"{seed}/random")

    def wall() -> float:
        owner = _current.get()
        return EPOCH + loop.time() + (owner.skew if owner is not None else 0.0)

    with (
        mock.patch.object(time, "time", wall),
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(time, "clock_gettime", lambda _: loop.time()),
        mock.patch.object(backoff, "_random", Random(f"{seed}/backoff")),
    ):
        try:
            asyncio.set_event_loop(loop)
            yield loop
        finally:
            asyncio.set_event_loop(None)
            random.setstate(state)
            loop.close()
