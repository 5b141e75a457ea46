"""Which of several clusters a unit's next task goes to: what is expected of each, and what the step prefers. Pure.

Expected finish = transfer + queue + start of a worker + execution. `finish` takes the earliest; `distance` the nearest
that has room, and the nearest of all where none has; `spread` the one with least to do for its size. A unit stays where
it is unless moving it pays by more than such figures are wrong by; and of clusters that are as good as equal the nearer
one gets it, so that units spill in the order of distance. And it stays as long as it would wait elsewhere too: by then
it may be known better where to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

FINISH: Final = "finish"
DISTANCE: Final = "distance"
SPREAD: Final = "spread"
_SURE: Final = 0.05  # seconds; less than this is no difference
_NEWS: Final = 0.2  # seconds; so old may be what is known of another's queue, which must not run dry meanwhile
_DOUBT: Final = 0.1  # nor is this part of the whole


class Expected(NamedTuple):
    """What is expected of one cluster. Times in seconds; `load` is the part of its processors that is wanted.

    `room`: the task begins at once; `begins`: it may be begun there at all.
    """

    cluster: str
    distance: float
    transfer: float
    queue: float
    start: float
    execution: float
    load: float
    room: bool
    begins: bool = True

    @property
    def finish(self) -> float:
        """Seconds until the task is expected to be done."""
        return self.transfer + self.queue + self.start + self.execution


def preferred(prefer: str, home: str, candidates: Sequence[Expected]) -> Expected:
    """The cluster that gets the unit, of at least one; `home` has it now, and need not be among them."""
    by_distance = sorted(candidates, key=lambda each: (each.distance, each.cluster != home, each.finish, each.cluster))
    if prefer == DISTANCE:
        return next((each for each in by_distance if each.room), by_distance[0])
    if prefer == SPREAD:
        least = min(each.load for each in candidates)
        return next(each for each in by_distance if each.load <= least + _DOUBT)
    here = next((each for each in candidates if each.cluster == home), None)
    better = [each for each in by_distance if here is None or (_earlier(each, here) and _in_time(each, here))]
    if not better and here is not None:
        return here
    first = min(better, key=lambda each: each.finish)
    return next(each for each in better if not _earlier(first, each))


def _in_time(one: Expected, here: Expected) -> bool:
    """Whether the task begins there about when its unit has come; if it never begins here, that is not asked."""
    return not here.begins or one.queue <= one.transfer + _NEWS


def _earlier(one: Expected, other: Expected) -> bool:
    """Whether one is expected to finish earlier than the other by more than the figures may be wrong by."""
    return one.finish < other.finish * (1.0 - _DOUBT) - _SURE
