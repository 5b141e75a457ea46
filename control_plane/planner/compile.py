"""From a workflow to the graph of a run: everything that handles units becomes a step of one kind, so that one rule
counts and closes them all.

A workflow's inputs become sources (`inputs.NAME`), cuts on edges become splits (`STEP.PORT.split`), units put together
become merges (`STEP.PORT.merge`, `outputs.NAME.merge`; in a tree also `STEP.PORT.local.merge`, on each cluster),
results become outputs (`outputs.NAME`): see `built_in`. What the author has written is in `authored`. Nothing here
depends on clusters: where a vertex may run is decided afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.planner import built_in
from control_plane.planner.authored import Definition, authored, form_of
from control_plane.planner.caching import cached
from control_plane.planner.edges import place_units
from control_plane.planner.graph import COPIED, Graph, Vertex
from topology.model import Topology
from wire.errors import ProblemError
from workflow import graph
from workflow.formats import MergeFormat, plain_format
from workflow.model import Binding, Caching, Place, Value, Workflow

LOCAL = "local"  # ends the name of what merges the units of each cluster, before a tree crosses


def compiled(
    workflow: Workflow,
    definitions: Mapping[str, Definition],
    parameters: Mapping[str, Mapping[str, Value]],
    topology: Topology,
    *,
    fresh: bool = False,
) -> Graph:
    """The graph of a workflow whose objects have been checked against each other.

    `definitions` are by reference ("clean-flights@1"), `parameters` the resolved ones by step name. `fresh`: the run
    takes nothing from the caches. Raises ProblemError where steps form a cycle or pair data by a cluster that it has
    lost.
    """
    spec = workflow.spec
    forms = {
        (use.name, port): form_of(output)
        for use in spec.steps
        for port, output in definitions[use.use].step.spec.outputs.items()
    }
    vertices: dict[str, Vertex] = {}
    caching: dict[str, Caching] = {}
    for use in spec.steps:
        definition = definitions[use.use]
        step = authored(use, definition, parameters.get(use.name, {}), forms)
        written = Vertex("step", step, use.place)
        made = [written]
        for port, binding in sorted(use.inputs.items()):
            declared = definition.step.spec.inputs[port].format or ""
            made += _before_port(written, port, binding, declared)
        vertices.update({vertex.name: vertex for vertex in made})
        wanted = graph.caching(use, definition.step)
        caching.update({vertex.name: wanted for vertex in made if vertex.kind == "step"})
    vertices.update({vertex.name: vertex for vertex in _outputs(workflow)})
    used = {port.from_step for vertex in vertices.values() for port in vertex.step.inputs}
    for name, given in spec.inputs.items():
        if f"inputs.{name}" in used:
            source = built_in.source(name, given, topology)
            vertices[source.name] = Vertex("source", source, dataset=given.dataset or "")
    _carry_formats(vertices)
    for name, wanted in caching.items():
        if wanted.enabled:
            vertices[name].step.cache.CopyFrom(cached(vertices[name].step, wanted, fresh=fresh))
    place_units(workflow, vertices)
    whole = Graph(vertices)
    _pin(whole)
    return whole


def _before_port(reader: Vertex, port: str, binding: Binding, declared: str) -> Iterator[Vertex]:
    """What stands between a port and what it reads, as its binding says. `declared`: the format that it takes."""
    if binding.pairing == "gather_tree" and binding.merge is None:
        yield _local(reader, port)
    if binding.split is not None:
        yield Vertex("split", built_in.split(reader.name, port, binding, binding.split, declared))
    if binding.merge is not None:
        yield from _merges(reader, port, binding, binding.merge, declared)


def _outputs(workflow: Workflow) -> Iterator[Vertex]:
    """What keeps the results, and before them what makes one file of some."""
    spec = workflow.spec
    for name, output in sorted(spec.outputs.items()):
        if output.merge is not None:
            merge = f"outputs.{name}.merge"
            file = output.file or ("" if output.merge == "concat" else f"{name}.{output.merge}")
            yield Vertex("merge", built_in.merge(merge, graph.producers(output), output.merge, file=file))
        yield Vertex("output", built_in.output(name, output, spec.policy.retain_outputs))


def _local(whole: Vertex, port: str) -> Vertex:
    """The step once more, for the units of each cluster; what it makes of them is what the step itself gathers."""
    step = m.Step()
    step.CopyFrom(whole.step)
    step.name = f"{whole.name}.{port}.{LOCAL}"
    for given in step.inputs:
        given.pairing = m.PAIRING_GATHER_EACH if given.name == port else m.PAIRING_BROADCAST
    others = [given for given in whole.step.inputs if given.name != port]
    gathered = next(given for given in whole.step.inputs if given.name == port)
    gathered.from_step, gathered.from_port = step.name, step.outputs[0].name
    told = sorted([*others, gathered], key=lambda given: given.name)
    del whole.step.inputs[:]
    whole.step.inputs.extend(told)
    return Vertex("step", step, Place(tolerate=whole.place.tolerate))


def _merges(reader: Vertex, port: str, binding: Binding, form: MergeFormat, declared: str) -> Iterator[Vertex]:
    """What makes one file of all units that a port reads: for the run, on each cluster, or on each and of these."""
    name = f"{reader.name}.{port}.merge"
    place = reader.place.model_copy(update={"stay": False})
    producers = graph.producers(binding)
    if binding.pairing == "gather_each":
        step = built_in.merge(name, producers, form, declared, pairing=m.PAIRING_GATHER_EACH)
        yield Vertex("merge", step, place, reader=reader)
        return
    if binding.pairing == "gather_tree":
        local = f"{reader.name}.{port}.{LOCAL}.merge"
        step = built_in.merge(local, producers, form, declared, pairing=m.PAIRING_GATHER_EACH)
        yield Vertex("merge", step, Place(tolerate=place.tolerate))
        producers = ((local, "out"),)
    yield Vertex("merge", built_in.merge(name, producers, form, declared), place)


def _carry_formats(vertices: Mapping[str, Vertex]) -> None:
    """A port that takes anything has the format of what comes."""

    def format_of(step: str, port: str) -> str:
        vertex = vertices.get(step)
        if vertex is None:
            return ""
        found = next((out.format for out in vertex.step.outputs if out.name == port), "")
        if not found and vertex.kind in ("split", "merge") and not vertex.step.execution.split.split.members:
            found = format_of(vertex.step.inputs[0].from_step, vertex.step.inputs[0].from_port)
            found = plain_format(found) if vertex.kind == "split" else found
        return found

    for vertex in vertices.values():
        for port in vertex.step.inputs:
            port.format = port.format or format_of(port.from_step, port.from_port)
        if vertex.kind in ("split", "merge"):
            vertex.step.outputs[0].format = vertex.step.outputs[0].format or format_of(vertex.name, "out")


def _pin(whole: Graph) -> None:
    """Pin what pairs by cluster or is to stay, and all that its units come through, to where the data lies."""
    waiting = [
        vertex
        for vertex in whole
        if vertex.place.stay or any(port.pairing == m.PAIRING_SAME_CLUSTER for port in vertex.step.inputs)
    ]
    pinned_for = {vertex.name: vertex.name for vertex in waiting}
    while waiting:
        vertex = waiting.pop()
        vertex.step.pinned = True
        if vertex.single or vertex.meets:
            together = vertex.gathers or vertex.meets
            reason = "takes the units of all clusters together" if together else "has no input"
            raise ProblemError(
                [
                    Problem(
                        field=f"spec.steps.{pinned_for[vertex.name]}.in",
                        message=f"{pinned_for[vertex.name]} takes units where the data lies that they stem from, but "
                        f"{vertex.name}, from which they come, {reason}, so its units stem from none",
                        remedy="pair or stay before gathering, or leave out `same: cluster` and `stay`",
                    )
                ]
            )
        for port in vertex.step.inputs:
            if port.pairing in COPIED:
                continue  # what is copied to everybody may come from anywhere
            producer = whole[port.from_step]
            if producer.name not in pinned_for:
                pinned_for[producer.name] = pinned_for[vertex.name]
                waiting.append(producer)
    whole.bound = frozenset(pinned_for)
