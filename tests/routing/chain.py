"""The chain of examples/thesis-chain on virtual time: what a run took, and what crossed between the zones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bdw_fed.v1 import model_pb2 as m
from simulator.federation import Federation
from simulator.job import Job
from topology.model import Taint, Topology

EXAMPLE = Path(__file__).parents[2] / "examples" / "thesis-chain"
EDGES = ("edge1", "edge2")
STEPS = ("first", "second", "third", "fourth")
START_SECONDS = 0.3  # of a Python worker
MEGABYTE = 1_000_000
_PACE = 0.02  # seconds a megabyte, as in the example
_VARIES = {"echo": 0.0, "shuffle": 0.3}  # shuffling takes longer for one unit than for another
_LONG = 3600.0


@dataclass(frozen=True)
class Load:
    """So many units of so many megabytes at each edge, through the chain of one of the two bodies."""

    body: str
    units: int
    megabytes: int

    @property
    def least(self) -> int:
        """Bytes that have to cross: each unit once, to the cloud."""
        return len(EDGES) * self.units * self.megabytes * MEGABYTE


@dataclass(frozen=True)
class Ran:
    """A run in virtual seconds and bytes between zones, and its tasks that any cluster may execute, by cluster."""

    makespan: float
    crossed: int
    tasks: dict[str, int]


def run(load: Load, prefer: str, *, removed: str = "", slower: float = 1.0, warm: bool = False) -> Ran:
    """One run in a federation of its own.

    `removed`: an edge that begins no task any more once a task is done. `slower`: so many times the bandwidth that is
    declared do the links not have. `warm`: the workers were up before.
    """
    declared = topology(load)
    federation = Federation.of(declared, links=topology(load, slower), start_seconds=0.0 if warm else START_SECONDS)
    federation.clock.run(1.0)
    federation.hub.submit("run", job(load, prefer))
    began = federation.clock.now
    if removed:
        federation.clock.run(_LONG, lambda: done(federation, STEPS[:1]) > 0)
        federation.apply(tainted(declared, removed))
    federation.clock.run(_LONG, lambda: federation.hub.ended)
    ended = federation.hub.runs["default", "run"]
    assert ended.state == m.RUN_STATE_SUCCEEDED, ended.message
    assert done(federation, STEPS) == len(STEPS) * len(EDGES) * load.units
    tasks = {cluster: done(federation, STEPS[:3], cluster) for cluster in federation.clusters}
    return Ran(federation.clock.now - began, federation.links.crossed.total(), tasks)


def done(federation: Federation, steps: tuple[str, ...], cluster: str = "") -> int:
    """Tasks of the steps that are done, on one cluster or all."""
    clusters = [cluster] if cluster else list(federation.clusters)
    found = 0
    for name in clusters:
        core = federation.clusters[name].core
        for key in core.runs():
            found += sum(step.done for step in core.status(key).steps if step.step in steps)
    return found


def topology(load: Load, slower: float = 1.0) -> Topology:
    """That of the example with a part for each unit."""
    document = yaml.safe_load((EXAMPLE / "topology.yaml").read_text())
    parts = [
        {"at": edge, "path": f"{edge}/{number}.bin", "size": f"{load.megabytes}MB"}
        for edge in EDGES
        for number in range(load.units)
    ]
    document["spec"]["datasets"] = [{"name": "units", "parts": parts}]
    for link in document["spec"]["links"]:
        assert link["bandwidth"] == "1Gbit"
        link["bandwidth"] = f"{round(1000 / slower)}Mbit"
    return Topology.model_validate(document)


def tainted(declared: Topology, cluster: str) -> Topology:
    """The same, where a cluster must not begin anything."""
    clusters = tuple(
        each.model_copy(update={"taints": (Taint(key="removed", effect="NoExecute"),)})
        if each.name == cluster
        else each
        for each in declared.spec.clusters
    )
    return declared.model_copy(update={"spec": declared.spec.model_copy(update={"clusters": clusters})})


def job(load: Load, prefer: str) -> Job:
    """The example's chain, whose steps prefer clusters so."""
    documents: list[Any] = [document(topology(load))]
    documents += yaml.safe_load_all((EXAMPLE / "steps.yaml").read_text())
    for chain in yaml.safe_load_all((EXAMPLE / "workflow.yaml").read_text()):
        if chain["metadata"]["name"] == f"chain-{load.body}":
            for step in chain["spec"]["steps"]:
                step["place"] = {**step.get("place", {}), "prefer": prefer}
            documents.append(chain)
    seconds = dict.fromkeys(STEPS, _PACE * load.megabytes)
    return Job.written(
        yaml.safe_dump_all(documents), seconds, unit_bytes=load.megabytes * MEGABYTE, varies=_VARIES[load.body]
    )


def document(model: Topology) -> Any:
    """As it is written."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)
