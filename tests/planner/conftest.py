"""Builders for plans: the flights example as it stands in the repository, and small federations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.planner.authored import Definition
from control_plane.planner.base import Measured, Request
from topology.model import Topology
from workflow.load import load
from workflow.model import Step, Workflow
from workflow.parameters import resolve, resolve_step

FLIGHTS = Path(__file__).resolve().parents[2] / "examples" / "flights"


@dataclass
class Case:
    """Objects to plan with."""

    topology: Topology
    workflow: Workflow
    definitions: dict[str, Definition]

    def request(
        self, states: Mapping[str, str] | None = None, measured: Mapping[str, Measured] | None = None
    ) -> Request:
        """A request in which all clusters are ready, except as `states` says."""
        values = resolve({}, self.workflow.spec.parameters)
        return Request(
            namespace="default",
            run="run-1",
            workflow=self.workflow,
            definitions=self.definitions,
            parameters={
                use.name: resolve_step(use, self.definitions[use.use].step.spec.parameters, values)
                for use in self.workflow.spec.steps
            },
            topology=self.topology,
            clusters={
                cluster.name: cp.ClusterStatus(name=cluster.name, state=(states or {}).get(cluster.name, "ready"))
                for cluster in self.topology.spec.clusters
            },
            measured=measured or {},
            epoch=5,
        )


def case_of(text: str) -> Case:
    loaded = load(text, "case.yaml")
    assert not loaded.problems
    models = [document.model for document in loaded.documents]
    topology = next(model for model in models if isinstance(model, Topology))
    workflow = next(model for model in models if isinstance(model, Workflow))
    steps = {model.reference: Definition(model, b"\1" * 32) for model in models if isinstance(model, Step)}
    return Case(topology, workflow, steps)


@pytest.fixture
def case() -> Callable[[str], Case]:
    """Objects from YAML text."""
    return case_of


@pytest.fixture
def flights() -> Case:
    """The flights example, with the sizes that its files have in truth."""
    text = "\n---\n".join((FLIGHTS / f"{name}.yaml").read_text() for name in ("topology", "steps", "workflow"))
    sizes = {"flights": {"ewr": 10_000_000, "jfk": 9_000_000, "lga": 8_000_000}}
    for airport, size in sizes["flights"].items():
        text = text.replace(f"data/edge-{airport}/flights.csv", f"data/edge-{airport}/flights.csv, size: {size}")
        text = text.replace(f"data/edge-{airport}/weather.csv", f"data/edge-{airport}/weather.csv, size: 500000")
    return case_of(text)
