"""NoExecute taints of this cluster: which steps begin nothing here any more, at once or after a while.

A step may tolerate a taint for ever, or for some seconds; when they are over, what waits is passed on. The seconds
count from when this agent heard of the taint, and anew from a restart of the agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import Step

_DRAINING: Final = "draining"  # the taint of a cluster that shall be empty


def noted(book: Book) -> None:
    """The taints may be others than before, or it is time to count anew."""
    before = book.tainted_since
    book.tainted_since = {taint: before.get(taint, book.now) for taint in book.no_execute}
    for live in book.lives.values():
        watch(book, live.graph.steps)


def watch(book: Book, steps: Iterable[Step]) -> None:
    """See to what waits for these steps when they don't tolerate a taint any more."""
    for taint, since in book.tainted_since.items():
        for seconds in {_patience(step, taint) for step in steps}:
            if 0.0 < seconds < math.inf and since + seconds > book.now:
                book.wake(since + seconds, "tainted")


def begins(book: Book, step: Step) -> bool:
    """Whether tasks of the step may be begun on this cluster: it tolerates the taints that forbid it.

    What is drained begins only what can be executed nowhere else.
    """
    for taint in book.no_execute:
        if taint.partition("=")[0] == _DRAINING and not step.free:
            continue
        if book.now >= book.tainted_since.get(taint, book.now) + _patience(step, taint):
            return False
    return True


def _patience(step: Step, taint: str) -> float:
    """For how many seconds the step tolerates a taint; 0 = not at all."""
    return max(step.tolerates.get(taint, 0.0), step.tolerates.get(taint.partition("=")[0], 0.0))
