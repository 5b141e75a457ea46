"""How runs that wait for the same room share it: who has least comes first, until all have the same.

Room is poured over the runs as water over a floor: it fills the lowest places first and never raises a high one while a
lower one wants more. So a run of ten thousand tasks, which has taken whatever was free, gets nothing more until a run
of two has as much as it. What nobody low enough wants is anybody's, so no room is left idle for fairness' sake.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def pour(free: float, used: Mapping[K, float]) -> dict[K, float]:
    """What of `free` each gets so that the least served come up together; the least served first, in any one unit."""
    order = sorted(used, key=lambda key: used[key])
    level = 0.0
    left = free
    raised = 0
    for key in order:
        step = used[key] - level
        if raised and step * raised > left:
            break
        left -= step * raised
        level = used[key]
        raised += 1
    if raised:
        level += max(0.0, left) / raised
    return {key: max(0.0, level - used[key]) for key in order}
