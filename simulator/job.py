"""What is submitted to a federation on virtual time: what its users would write, and how long its tasks take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.planner.authored import Definition
from control_plane.planner.base import Request
from topology.model import Topology
from workflow.load import load
from workflow.model import Step, Workflow


@dataclass(frozen=True)
class Job:
    """What is submitted: a request of the planner, how long tasks take by step, in seconds, and how large units are.

    Tasks of a step take a part `varies` more or less than that; which one how long follows from its id.
    """

    request: Request
    seconds: Mapping[str, float]
    unit_bytes: int = 1000
    varies: float = 0.0

    @classmethod
    def written(cls, text: str, seconds: Mapping[str, float], *, unit_bytes: int = 1000, varies: float = 0.0) -> Job:
        """A job as its users write it: topology, workflow and steps as YAML. ValueError if that has problems."""
        loaded = load(text, "job.yaml")
        if loaded.problems:
            raise ValueError(loaded.problems)
        models = [document.model for document in loaded.documents]
        request = Request(
            namespace="default",
            run="",
            workflow=next(model for model in models if isinstance(model, Workflow)),
            definitions={model.reference: Definition(model) for model in models if isinstance(model, Step)},
            parameters={},
            topology=next(model for model in models if isinstance(model, Topology)),
            clusters={},
        )
        return cls(request, seconds, unit_bytes, varies)
