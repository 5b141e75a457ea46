"""What bounds the bytes of runs on this cluster: quotas, the windows that splits get of them, and full disks.

See `quotas` and `disks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster_agent.coordinator.state import Run

OFFERS: Final = -1  # in the place of a step: units that other clusters offer


class Quota(NamedTuple):
    """Bytes that may lie stored on this cluster at once: of a run's units, or of those of a namespace's runs."""

    namespace: str  # "": it is the run's own
    limit: int


class Need(NamedTuple):
    """What is known of a task that has met a full disk: what it is to have next, and how often it was alone there."""

    size: int
    alone: int


class Still(NamedTuple):
    """What of a run had been done when it was looked at, and since when that is all."""

    done: tuple[int, ...]
    since: float


@dataclass(slots=True)
class Window:
    """What a split may have stored of its parts at once, and what it has."""

    most: int
    stored: int


def stored_by(run: Run) -> int:
    """Bytes of all copies of a run's units, added up from the durable state. Files of datasets are not among them."""
    units = sum(unit.size * len(unit.copies) for unit in run.units.values() if unit.part < 0)
    return units + sum(each.unit.size * len(each.copies) for entry in run.known.values() for each in entry.outputs)
