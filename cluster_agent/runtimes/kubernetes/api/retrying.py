"""Which failures are worth another try, and for how long.
 Anything that can be asked twice is, while there is time: the server was out of reach, overloaded, or changing its
leader. What must not be done twice (a creation) is tried again only while it is certain that it was not done. An
answer is an answer: not found, forbidden or in conflict is never asked for again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import SystemRandom
from typing import TypeVar

from cluster_agent.runtimes.kubernetes.api.backoff import delay
from cluster_agent.runtimes.kubernetes.api.errors import ApiError, TooManyRequests, Unavailable

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long everything may take, and one try of it; seconds. Clock, chance and sleep are the tests' to replace."""

    total: float = 30.0
    single: float = 15.0
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = SystemRandom().random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def worth_retrying(error: ApiError, *, repeatable: bool) -> bool:
    """Whether another try may end better, and does no harm."""
    if isinstance(error, TooManyRequests):
        return True
    return isinstance(error, Unavailable) and (repeatable or not error.uncertain)


async def retried(attempt: Callable[[float], Awaitable[ResultT]], *, repeatable: bool, patience: Patience) -> ResultT:
    """The result of `attempt`, which is given the seconds that it may take. At the end of patience the last error."""
    end = patience.clock() + patience.total
    failures = 0
    while True:
        try:
            return await attempt(max(0.001, min(patience.single, end - patience.clock())))
        except ApiError as error:
            failures += 1
            wait = delay(failures, error.retry_after).drawn(patience.chance())
            if not worth_retrying(error, repeatable=repeatable) or patience.clock() + wait >= end:
                raise
        await patience.sleep(wait)
