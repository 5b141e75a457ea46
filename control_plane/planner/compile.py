"""From a workflow to the graph of a run: everything that handles units becomes a step of one kind, so that one rule
counts and closes them all.

A workflow's inputs become sources (`inputs.NAME`), cuts on edges become splits (`STEP.PORT.split`), units put together
become merges (`STEP.PORT.merge`, `outputs.NAME.merge`; in a tree also `STEP.PORT.local.merge`, on each cluster),
results become outputs (`outputs.NAME`): see `built_in`. What is said in the workflow lies over what the step's
definition says. Nothing here depends on clusters: where a vertex may run is decided afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.control_plane_pb2 import Problem
from control_plane.planner import built_in
from control_plane.planner.caching import cached
from control_plane.planner.edges import place_units
from control_plane.planner.execution import execution, of_a_slot
from topology.model import Topology
from wire.errors import ProblemError
from workflow import graph
from workflow.formats import MergeFormat, plain_format
from workflow.model import Batch as WrittenBatch
from workflow.model import Binding, InputPort, OutputPort, Place, Step, StepUse, Value, Workflow

Kind = Literal["source", "split", "merge", "step", "output"]
LOCAL = "local"  # ends the name of what merges the units of each cluster, before a tree crosses
_PAIRING = {
    "each": m.PAIRING_EACH,
    "same_cluster": m.PAIRING_SAME_CLUSTER,
    "gather_all": m.PAIRING_GATHER_ALL,
    "broadcast": m.PAIRING_BROADCAST,
    "cross": m.PAIRING_CROSS,
    "zip": m.PAIRING_ZIP,
    "group": m.PAIRING_GROUP,
    "gather_each": m.PAIRING_GATHER_EACH,
    "gather_tree": m.PAIRING_GATHER_ALL,
}
_APART = ("each", "group", "gather_each", "zip")  # how ports are read that make more than one task
COPIED = (m.PAIRING_BROADCAST, m.PAIRING_CROSS)
"""How ports are read whose units are copied to each cluster."""

ASIDE = (m.PAIRING_SAME_CLUSTER, *COPIED)
"""How ports are read that make no tasks: beside the units that do."""


@dataclass(frozen=True)
class Definition:
    """A step's definition and the digest of its code's archive (empty: it has none)."""

    step: Step
    bundle: bytes = b""


@dataclass(frozen=True)
class Vertex:
    """A step of the run, where its author wants it, and for a source the dataset that it reads."""

    kind: Kind
    step: m.Step
    place: Place = field(default_factory=Place)
    dataset: str = ""
    reader: Vertex | None = None  # of a merge on each cluster: who reads the one file, where it is made

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def gathers(self) -> bool:
        """One task takes everything."""
        return any(port.pairing == m.PAIRING_GATHER_ALL for port in self.step.inputs)

    @property
    def meets(self) -> bool:
        """Its units come together on a cluster that follows from them, whoever made them."""
        return any(port.pairing in (m.PAIRING_GROUP, m.PAIRING_GATHER_EACH, m.PAIRING_ZIP) for port in self.step.inputs)

    @property
    def stays_apart(self) -> bool:
        """On each cluster one task takes what was made there."""
        return any(port.pairing == m.PAIRING_GATHER_EACH for port in self.step.inputs)

    @property
    def single(self) -> bool:
        """It has exactly one task, whatever comes in."""
        return self.kind != "source" and (self.gathers or not self.step.inputs)


class Graph:
    """The vertices of a run in topological order, and who reads from whom.

    `bound` names those whose units never leave the cluster where the data lies that they stem from.
    """

    def __init__(self, vertices: Mapping[str, Vertex]) -> None:
        needs = {name: _before(vertex) for name, vertex in vertices.items()}
        try:
            order = list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            raise ProblemError(
                [
                    Problem(
                        field="spec.steps",
                        message=f"the steps {' → '.join(error.args[1])} need each other's outputs",
                        remedy="a workflow has no cycles: take one of these bindings out",
                    )
                ]
            ) from error
        self.vertices = {name: vertices[name] for name in order}
        self.bound: frozenset[str] = frozenset()
        self._consumers: dict[str, list[tuple[Vertex, m.InputPort]]] = {name: [] for name in order}
        for vertex in self.vertices.values():
            for port in vertex.step.inputs:
                self._consumers[port.from_step].append((vertex, port))

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self.vertices.values())

    def __getitem__(self, name: str) -> Vertex:
        return self.vertices[name]

    def consumers(self, name: str) -> list[tuple[Vertex, m.InputPort]]:
        """Who reads what this vertex makes, and through which of its ports."""
        return self._consumers[name]

    def drivers(self, vertex: Vertex) -> list[m.InputPort]:
        """The port each of whose units makes a task, once for each port that it reads from."""
        return [port for port in vertex.step.inputs if port.pairing == m.PAIRING_EACH]


def _before(vertex: Vertex) -> set[str]:
    """Whose executors are known when this vertex gets its own; of a merge's reader, those of what it reads besides."""
    reads = [*vertex.step.inputs, *(vertex.reader.step.inputs if vertex.reader is not None else ())]
    return {port.from_step for port in reads} - {vertex.name}


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
    vertices: dict[str, Vertex] = {}
    wanted = {use.name: graph.caching(use, definitions[use.use].step) for use in spec.steps}
    forms = {
        (use.name, port): _form(output)
        for use in spec.steps
        for port, output in definitions[use.use].step.spec.outputs.items()
    }
    for use in spec.steps:
        vertices[use.name] = _step(use, definitions[use.use], parameters.get(use.name, {}), forms)
        for port, binding in sorted(use.inputs.items()):
            declared = definitions[use.use].step.spec.inputs[port].format or ""
            if binding.pairing == "gather_tree" and binding.merge is None:
                local = _local(vertices[use.name], port)
                vertices[local.name] = local
                wanted[local.name] = wanted[use.name]
            if binding.split is not None:
                split = built_in.split(use.name, port, binding, binding.split, declared)
                vertices[split.name] = Vertex("split", split)
            if binding.merge is not None:
                merges = _merges(vertices[use.name], port, binding, binding.merge, declared)
                vertices.update({each.name: each for each in merges})
    for name, output in sorted(spec.outputs.items()):
        if output.merge is not None:
            merge = f"outputs.{name}.merge"
            file = output.file or ("" if output.merge == "concat" else f"{name}.{output.merge}")
            vertices[merge] = Vertex("merge", built_in.merge(merge, graph.producers(output), output.merge, file=file))
        vertices[f"outputs.{name}"] = Vertex("output", built_in.output(name, output, spec.policy.retain_outputs))
    used = {port.from_step for vertex in vertices.values() for port in vertex.step.inputs}
    for name, given in spec.inputs.items():
        if f"inputs.{name}" in used:
            source = built_in.source(name, given, topology)
            vertices[source.name] = Vertex("source", source, dataset=given.dataset or "")
    _carry_formats(vertices)
    for name, caching in wanted.items():
        if caching.enabled:
            vertices[name].step.cache.CopyFrom(cached(vertices[name].step, caching, fresh=fresh))
    place_units(workflow, vertices)
    whole = Graph(vertices)
    _pin(whole)
    return whole


def _step(
    use: StepUse, definition: Definition, parameters: Mapping[str, Value], forms: Mapping[tuple[str, str], str]
) -> Vertex:
    spec = definition.step.spec
    retry = graph.retry(use, definition.step)
    wanted = graph.resources(use, definition.step)
    resources, pool = of_a_slot(spec.run, wanted, graph.pool(use, definition.step))
    timeout = graph.timeout(use, definition.step)
    code = execution(spec.run, definition.bundle, wanted)
    tolerated = [
        (each.key if each.value is None else f"{each.key}={each.value}", each.seconds)
        for each in use.place.tolerate
        if each.effect in (None, "NoExecute")
    ]
    for name, secret in sorted(spec.secrets.items()):
        code.secrets[name].CopyFrom(m.SecretKey(name=secret.name, key=secret.key))
    step = m.Step(
        name=use.name,
        definition=definition.step.reference,
        execution=code,
        inputs=[
            *(each for port, made in sorted(use.inputs.items()) for each in _input(use, port, made, definition)),
            *(_filled(use, name, made, definition, forms) for name, made in sorted(graph.makers(use).items())),
            *(_deciding(use, index, made, forms[made]) for index, made in enumerate(graph.deciders(use))),
        ],
        outputs=[
            m.OutputPort(name=name, format=port.written or "", optional=port.optional, form=_form(port))
            for name, port in sorted(spec.outputs.items())
        ],
        parameters_json=json.dumps(dict(parameters), sort_keys=True),
        resources=resources,
        pool=pool,
        retry=m.Retry(
            attempts=retry.attempts,
            backoff=retry.backoff,
            factor=retry.factor,
            max_backoff=retry.max,
            jitter=retry.jitter,
            on=retry.on or (),
            not_on=retry.not_on,
        ),
        timeout=timeout.run,
        queue_timeout=timeout.queue,
        start_timeout=timeout.start,
        on_failure=use.on_failure,
        prefer=use.place.prefer,
        tolerates=[taint for taint, seconds in tolerated if seconds is None],
        tolerates_for={taint: seconds for taint, seconds in tolerated if seconds is not None},
        preemptible=use.preemptible,
    )
    return Vertex("step", step, use.place)


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


def _input(use: StepUse, port: str, binding: Binding, definition: Definition) -> list[m.InputPort]:
    producers = graph.producers(binding)
    if binding.split is not None:
        producers = ((f"{use.name}.{port}.split", "out"),)
    elif binding.merge is not None:
        producers = ((f"{use.name}.{port}.merge", "out"),)
    declared = definition.step.spec.inputs[port]
    return [
        m.InputPort(
            name=port,
            format=declared.format or "",
            from_step=source,
            from_port=from_port,
            pairing=_PAIRING[binding.pairing],
            form=_form(declared),
            group_by=binding.group.by if binding.group is not None else "",
            batch=_batch(binding.batch) if binding.batch is not None else None,
        )
        for source, from_port in producers
    ]


def _batch(batch: WrittenBatch) -> m.Batch:
    return m.Batch(count=batch.count or 0, size=batch.size or 0, wait=batch.wait)


def _filled(
    use: StepUse, name: str, made: tuple[str, str], definition: Definition, forms: Mapping[tuple[str, str], str]
) -> m.InputPort:
    """A parameter that another step makes is a port of its own: beside those that make tasks, or gathered with all."""
    takes = definition.step.spec.parameters[name]
    parameter = m.Filled(
        name=name,
        type=takes.type,
        enum_json=json.dumps(takes.enum) if takes.enum is not None else "",
        minimum=takes.minimum,
        maximum=takes.maximum,
        maker=".".join(made),
    )
    return _value(use, f"param.{name}", made, forms[made], parameter)


def _deciding(use: StepUse, index: int, made: tuple[str, str], form: str) -> m.InputPort:
    """So is what another step makes and the step's condition names."""
    maker = ".".join(made)
    return _value(use, f"when.{index}", made, form, m.Filled(name=maker, maker=maker, when=use.when or ""))


def _value(use: StepUse, name: str, made: tuple[str, str], form: str, parameter: m.Filled) -> m.InputPort:
    alone = not any(binding.pairing in _APART for binding in use.inputs.values())
    return m.InputPort(
        name=name,
        from_step=made[0],
        from_port=made[1],
        pairing=m.PAIRING_GATHER_ALL if alone else m.PAIRING_BROADCAST,
        form=form,
        parameter=parameter,
    )


def _form(port: InputPort | OutputPort) -> str:
    return "" if port.form == "path" else port.form


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
