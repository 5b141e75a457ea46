"""What is told of tasks: gathered as it happens, taken by the link as soon as it can send.

Results are kept until the coordinator has them, in the store's journal too, so that a daemon that is started again
tells them. One is told when it is as durable as was asked for. A result after which the node has more to do of the same
waits a moment for company: there will be more to tell soon. So do units of tasks that run still, if others were told a
moment ago: whoever may be idle has those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from cluster_agent.node.messages import TaskKey
from cluster_agent.orders.messages import Output, Produced, Result, Results, Started, Upward

_RESULTS_BYTES: Final = 2 << 20  # of a message, about
_RESULT_BYTES: Final = 100
_OUTPUT_BYTES: Final = 150
_PATIENCE_SECONDS: Final = 0.02
_COMPANY: Final = 32  # results that wait for no more


class _Told(NamedTuple):
    """A result that waits to be told."""

    namespace: str
    run: str
    result: Result


class Outbox:
    """`wake` is called when there is something to take."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._results: dict[TaskKey, Result] = {}  # not acknowledged
        self._waiting: list[Upward | _Told] = []
        self._timer: asyncio.TimerHandle | None = None
        self._woken = 0.0  # when units were told at once, or what was waiting was told, last

    def keys(self) -> Collection[TaskKey]:
        """Of the results that are not acknowledged."""
        return self._results.keys()

    def outputs(self, key: TaskKey) -> Sequence[Output]:
        """Of a result that is not acknowledged."""
        result = self._results.get(key)
        return result.outputs if result is not None else ()

    def keep(self, key: TaskKey, result: Result) -> None:
        """A result that an earlier daemon left: for the hello."""
        self._results[key] = result

    def result(self, key: TaskKey, result: Result, *, patient: bool = False) -> None:
        """Tell how a task ended; `patient`: there will be more soon."""
        self._results[key] = result
        self._waiting.append(_Told(key.namespace, key.run, result))
        if patient and len(self._waiting) < _COMPANY:
            self._wake_soon()
        else:
            self.wake()

    def again(self, key: TaskKey) -> None:
        """Tell a result once more; nothing if there is none yet."""
        result = self._results.get(key)
        if result is not None:
            self.result(key, result)

    def started(self, key: TaskKey) -> None:
        """Tell that a task runs; nobody acts upon it."""
        self._waiting.append(Started(key.namespace, key.run, ((key.task, key.attempt),)))
        self._wake_soon()

    def produced(self, key: TaskKey, outputs: Sequence[Output]) -> None:
        """Tell of units of a task that still runs."""
        self._waiting.append(Produced(key.namespace, key.run, key.task, key.attempt, tuple(outputs)))
        now = asyncio.get_running_loop().time()
        if now < self._woken + _PATIENCE_SECONDS:
            self._wake_soon()
        else:
            self._woken = now
            self.wake()

    def forget(self, keys: Iterable[TaskKey]) -> None:
        """The coordinator has these, or wants them no more."""
        for key in keys:
            self._results.pop(key, None)

    def begin(self) -> None:
        """A new stream: all that is kept is to be told, and nothing else yet."""
        self._waiting = [_Told(key.namespace, key.run, result) for key, result in self._results.items()]

    def take(self) -> list[Upward]:
        """What fits into one message; the rest is for the next."""
        taken: list[Upward] = []
        results: list[Result] = []
        run: tuple[str, str] | None = None
        size = count = 0
        for count, waiting in enumerate(self._waiting, 1):  # noqa: B007 - how far we came
            if isinstance(waiting, _Told):
                namespace, name, result = waiting
                if run != (namespace, name):
                    results = []
                    run = (namespace, name)
                    taken.append(Results(namespace, name, results))  # type: ignore[arg-type]
                results.append(result)
                size += _RESULT_BYTES + _OUTPUT_BYTES * len(result.outputs)
            else:
                run = None
                taken.append(waiting)
                size += _RESULT_BYTES + (_OUTPUT_BYTES * len(waiting.outputs) if type(waiting) is Produced else 0)
            if size > _RESULTS_BYTES:
                break
        del self._waiting[:count]
        return taken

    def close(self) -> None:
        """Nothing more is told."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._out_of_patience)

    def _out_of_patience(self) -> None:
        self._timer = None
        self._woken = asyncio.get_running_loop().time()
        self.wake()
