"""Steps that need each other, carried out as many at a time as is sensible.

A step is begun once all that it needs are done, the first in the list before the others. When one fails none is begun
any more; those under way are awaited, since what a program began in the middle helps nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What it is about, what does it, and which others have to be done; `do` returns what there is to say of it."""

    name: str
    do: Callable[[], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """A step is under way."""

    step: Step


@dataclass(frozen=True)
class Done:
    """It is done."""

    step: Step
    seconds: float
    said: str


def carry_out(steps: Sequence[Step], at_once: int) -> Iterator[Begun | Done]:
    """Do all of them. Raises what the first that failed has raised, once none is under way any more."""
    left = list(steps)
    done: set[str] = set()
    running: dict[Future[Done], Step] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(at_once) as threads:
        while left or running:
            able = [step for step in left if done.issuperset(step.needs)][: at_once - len(running)]
            for step in able if failure is None else ():
                left.remove(step)
                running[threads.submit(_timed, step)] = step
                yield Begun(step)
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                if error := future.exception():
                    failure = failure or error
                else:
                    done.add(future.result().step.name)
                    yield future.result()
    if failure is not None:
        raise failure
    assert not left, f"steps that need what there is not: {[step.name for step in left]}"


def _timed(step: Step) -> Done:
    began = time.monotonic()
    said = step.do()
    return Done(step, time.monotonic() - began, said)
