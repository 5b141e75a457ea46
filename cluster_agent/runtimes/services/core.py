"""The conversation with one service process: who is told what when, and what becomes of its tasks. Pure.

A process is *coming* until it says hello, *warming* until it says that it is ready, and then takes tasks, as many at a
time as it has slots. A task whose time is over is cancelled; if it is still there after a grace, the process is killed,
for nothing less stops code that does not listen.

When the process dies all of its tasks are over. If there was one, the death is charged to that one. If there were
several, nobody can know whose it is: none is charged, and each is a *suspect*, which is next executed alone (`Wanted`,
whoever hands it over remembers that). So a task that kills its service is found at the second time, and no other is
ever charged with what it did. A death of our making, because a task did not end in time, is that task's alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from cluster_agent.runtimes.base import Outcome, Service, last_bytes
from cluster_agent.runtimes.services.messages import (
    VERSION,
    Action,
    Began,
    Broken,
    Cancel,
    Drain,
    Ended,
    Event,
    Exited,
    Failed,
    Heard,
    Hello,
    HungUp,
    Kill,
    Log,
    Ping,
    Ready,
    Result,
    Said,
    Stop,
    Task,
    Tell,
    Tick,
    Unwanted,
    Up,
    WakeAt,
    Wanted,
    Write,
)

GRACE_SECONDS: Final = 2.0  # for a task that is cancelled, and for a process that is drained
KINDS: Final = ("exception", "output", "memory", "disk")  # of failure, as a service may say them
_COMING, _WARMING, _READY, _DRAINED, _KILLED, _GONE = range(6)
_NEVER: Final = float("inf")
_MESSAGE_BYTES: Final = 512


class _Running:
    """A task that the service has."""

    __slots__ = ("alone", "began", "due", "grace", "task", "unwanted")

    def __init__(self, task: Task, alone: bool, now: float) -> None:
        self.task = task
        self.alone = alone
        self.began = now
        self.due = now + task.timeout if task.timeout else _NEVER
        self.grace = _NEVER  # it was cancelled, and has until then
        self.unwanted = False  # it was cancelled because nobody wants it, and not because its time was over


class ServiceCore:
    """One process, from its start to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = _COMING
        self._running: dict[str, _Running] = {}
        self._waiting: deque[Wanted] = deque()
        self._why = ""  # we have killed it
        self._by: str | None = None  # and which task was the reason
        self._heard_at = 0.0
        self._asked_at: float | None = None  # whether it is well, which it has not answered
        self._until = _NEVER  # it has to be up, or gone
        self._hung_up = False  # it has closed the connection: as a rule it is about to end, and its end tells more
        self._woken_at = _NEVER
        self._now = 0.0
        self._actions: list[Action] = []

    @property
    def ready(self) -> bool:
        """Whether it takes tasks."""
        return self._state == _READY and not self._hung_up

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now, in order."""
        self._actions, self._now = [], now
        match event:
            case Began():
                self._until = now + self._service.warm_up
            case Heard(said):
                self._hear(said)
            case Broken(why):
                self._break(why)
            case HungUp():
                self._hang_up()
            case Exited(outcome):
                self._exited(outcome)
            case Wanted():
                self._want(event)
            case Unwanted(id):
                self._unwant(id)
            case Stop():
                self._stop()
            case Tick():
                self._woken_at = _NEVER
        self._look_at_the_time()
        self._go_on()
        self._wake()
        return self._actions

    # ------------------------------------------------------------------------------------------------ what it says

    def _hear(self, said: Said) -> None:
        if self._state >= _KILLED:
            return
        self._heard_at, self._asked_at = self._now, None
        match said:
            case Hello(version):
                if self._state != _COMING:
                    self._break("it said hello twice")
                elif version != VERSION:
                    self._break(f"it speaks version {version} of the conversation, and we version {VERSION}")
                else:
                    self._state = _WARMING
            case Ready():
                if self._state != _WARMING:
                    self._break("it said that it is ready twice" if self._state == _READY else "it did not say hello")
                else:
                    self._state, self._until = _READY, _NEVER
                    self._actions.append(Up())
            case Result():
                self._result(said)
            case Log():
                self._log(said)

    def _result(self, result: Result) -> None:
        running = self._running.pop(result.id, None)
        if running is None:
            self._break(f"it told the result of task {result.id[:80]!r}, which it was not given, or has told already")
            return
        seconds = self._now - running.began
        failure = result.failure
        if running.unwanted:
            outcome = Outcome("lost", "it was cancelled", seconds=seconds)
        elif running.grace != _NEVER:
            outcome = _timed_out(running.task, seconds)
        elif failure is None:
            outcome = Outcome(seconds=seconds)
        else:
            message = _cut(failure.message) or "it failed, and its service did not say why"
            kind = failure.kind or KINDS[0]
            if kind not in KINDS:
                message = f"{message} (its service calls that {kind[:40]!r}; expected {', '.join(KINDS)})"
                kind = KINDS[0]
            outcome = Outcome(kind, message, last_bytes(failure.detail), seconds)
        self._actions.append(Ended(result.id, outcome))

    def _log(self, log: Log) -> None:
        ids = [log.id] if log.id else [*self._running]
        text = log.text if log.text.endswith("\n") else log.text + "\n"
        known = [id for id in ids if id in self._running]
        if known:
            self._actions.append(Write(known, 2 if log.error else 1, text.encode("utf-8", "replace")))

    def _break(self, why: str) -> None:
        """It can't be spoken with."""
        if self._state >= _DRAINED:
            return
        self._kill(f"the service can't be spoken with: {why}")

    def _hang_up(self) -> None:
        if self._state < _DRAINED:
            self._hung_up, self._until = True, self._now + GRACE_SECONDS

    # ------------------------------------------------------------------------------------------------- what it does

    def _want(self, wanted: Wanted) -> None:
        if not self.ready:
            self._actions.append(Ended(wanted.task.id, Outcome("lost", "the service is gone")))
            return
        self._waiting.append(wanted)

    def _go_on(self) -> None:
        """Hand over what waits; what is to be alone waits for the others, and they for it."""
        while self.ready and self._waiting:
            first = self._waiting[0]
            if self._running and (first.alone or any(running.alone for running in self._running.values())):
                return
            self._waiting.popleft()
            self._running[first.task.id] = _Running(first.task, first.alone, self._now)
            self._actions.append(Tell(first.task))

    def _unwant(self, id: str) -> None:
        running = self._running.get(id)
        if running is None:
            left = [wanted for wanted in self._waiting if wanted.task.id != id]
            if len(left) < len(self._waiting):
                self._waiting = deque(left)
                self._actions.append(Ended(id, Outcome("lost", "it was cancelled")))
            return
        running.unwanted = True
        self._cancel(running)

    def _cancel(self, running: _Running) -> None:
        if running.grace == _NEVER:
            running.grace, running.due = self._now + GRACE_SECONDS, _NEVER
            if self.ready:
                self._actions.append(Tell(Cancel(running.task.id)))

    def _stop(self) -> None:
        if self.ready and not (self._running or self._waiting):
            self._state, self._until = _DRAINED, self._now + GRACE_SECONDS
            self._actions.append(Tell(Drain()))
        elif self._state < _KILLED:
            self._kill("the service was stopped")

    def _kill(self, why: str, by: str | None = None) -> None:
        if self._state in (_COMING, _WARMING):
            self._actions.append(Failed(why))
        self._state, self._until = _KILLED, _NEVER
        self._why, self._by = why, by
        self._actions.append(Kill())

    def _exited(self, outcome: Outcome) -> None:
        if self._state in (_COMING, _WARMING):
            self._actions.append(Failed(f"{outcome.message} before it was ready", outcome.detail))
        shared = len(self._running) > 1
        for id, running in self._running.items():
            suspect = False
            if running.unwanted:
                ended = Outcome("lost", "it was cancelled")
            elif running.grace != _NEVER:
                ended = _timed_out(running.task, 0.0)
            elif self._by is not None:
                ended = Outcome("lost", self._why)
            elif shared:
                others = f"and {len(self._running)} of its tasks with it; each is tried again by itself"
                ended, suspect = Outcome("lost", f"{self._why or outcome.message}, {others}"), True
            else:
                ended = Outcome("exit", self._why) if self._why else outcome
            seconds = self._now - running.began
            self._actions.append(Ended(id, replace(ended, detail=outcome.detail, seconds=seconds), suspect))
        for wanted in self._waiting:
            self._actions.append(Ended(wanted.task.id, Outcome("lost", "the service is gone")))
        self._running.clear()
        self._waiting.clear()
        self._state, self._until = _GONE, _NEVER

    # ------------------------------------------------------------------------------------------------------ the time

    def _look_at_the_time(self) -> None:
        if self._state >= _KILLED:
            return
        if self._until <= self._now:
            self._kill(self._late())
            return
        for id, running in [*self._running.items()]:
            if running.grace <= self._now:
                self._kill("the service was ended, because another of its tasks did not stop when it was cancelled", id)
                return
            if running.due <= self._now:
                self._cancel(running)
        health = self._service.health
        if not (self.ready and health):
            return
        if self._asked_at is not None and self._asked_at + health <= self._now:
            self._kill(f"the service did not answer within {health:g} s when it was asked whether it is well")
        elif self._asked_at is None and not self._engaged and self._heard_at + health <= self._now:
            self._asked_at = self._now
            self._actions.append(Tell(Ping()))

    @property
    def _engaged(self) -> bool:
        """Whether it can't be expected to listen: one that takes one task at a time may do nothing beside it."""
        return self._service.slots == 1 and bool(self._running)

    def _late(self) -> str:
        """What it has not done in time."""
        if self._hung_up:
            return "the service can't be spoken with: it closed the connection, and did not end"
        return "it did not end" if self._state == _DRAINED else f"it was not ready within {self._service.warm_up:g} s"

    def _wake(self) -> None:
        due = [self._until]
        if self._state == _READY:
            due += [min(running.due, running.grace) for running in self._running.values()]
            if self.ready and self._service.health and not (self._asked_at is None and self._engaged):
                due.append((self._heard_at if self._asked_at is None else self._asked_at) + self._service.health)
        at = min(due) if self._state < _KILLED else _NEVER
        if at not in (self._woken_at, _NEVER):
            self._woken_at = at
            self._actions.append(WakeAt(at))


def _timed_out(task: Task, seconds: float) -> Outcome:
    return Outcome("timeout", f"ended after its timeout of {task.timeout:g} s", seconds=seconds)


def _cut(message: str) -> str:
    """What a line for people has room for."""
    return " ".join(message.split()).encode("utf-8", "backslashreplace")[:_MESSAGE_BYTES].decode("utf-8", "ignore")
