"""What can be wrong with the parameters of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ParameterFault:
    """One parameter and what is wrong with it."""

    name: str
    kind: Literal["unknown", "missing", "type", "enum", "range", "template"]
    message: str
    remedy: str = ""


class ParameterError(ValueError):
    """Parameters can't be resolved; all faults at once."""

    def __init__(self, faults: tuple[ParameterFault, ...]) -> None:
        super().__init__("; ".join(f"{fault.name}: {fault.message}" for fault in faults))
        self.faults = faults
