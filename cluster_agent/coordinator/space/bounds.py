"""What bounds the bytes of runs on this cluster: quotas, and the windows that splits get of them. See `quotas`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster_agent.coordinator.state import Run

OFFERS: Final = -1  # in the place of a step: units that other clusters offer


class Quota(NamedTuple):
    """Bytes that may lie stored on this cluster at once: of a run's units, or of those of a namespace's runs."""

    namespace: str  # "": it is the run's own
    limit: int


@dataclass(slots=True)
class Window:
    """What a split may have stored of its parts at once, and what it has."""

    most: int
    stored: int


def stored_by(run: Run) -> int:
    """Bytes of all copies of a run's units, added up from the durable state. Files of datasets are not among them."""
    units = sum(unit.size * len(unit.copies) for unit in run.units.values() if unit.part < 0)
    return units + sum(each.unit.size * len(each.copies) for entry in run.known.values() for each in entry.outputs)
