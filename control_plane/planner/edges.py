"""Where the units of each port lie, by what is said of the edges on which they are read.

A port may be read on several edges that say different things. The one that keeps the units safest, and in most reach,
counts: shared, then disk, then memory. What becomes a run's output is never in memory, for nothing makes it again once
the run is over. The word on an edge that is cut, or put together, is about the pieces, or the one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from bdw_fed.v1 import model_pb2 as m
from workflow.model import Store, Workflow

_ORDER: tuple[Store, ...] = ("auto", "memory", "disk", "shared")  # the later counts


class _Vertex(Protocol):
    @property
    def step(self) -> m.Step: ...


def place_units(workflow: Workflow, vertices: Mapping[str, _Vertex]) -> None:
    """Say at each output port where its units lie."""
    for use in workflow.spec.steps:
        for port, binding in use.inputs.items():
            _place(_read(vertices, use.name, port), binding.store or "auto")
    for name, output in workflow.spec.outputs.items():
        _place(_read(vertices, f"outputs.{name}", "in"), output.store or "disk")


def _read(vertices: Mapping[str, _Vertex], step: str, port: str) -> Iterable[m.OutputPort]:
    """The ports that an input reads; of a tree also those that its local tasks read."""
    for given in vertices[step].step.inputs:
        if given.name != port:
            continue
        producer = vertices[given.from_step]
        yield from (made for made in producer.step.outputs if made.name == given.from_port)
        if given.from_step.startswith(f"{step}.{port}.") and producer.step.definition:
            yield from _read(vertices, given.from_step, port)


def _place(ports: Iterable[m.OutputPort], said: Store) -> None:
    for made in ports:
        if _ORDER.index(said) > _ORDER.index(_known(made)):
            made.store = said


def _known(made: m.OutputPort) -> Store:
    return next((store for store in _ORDER if store == made.store), "auto")
