"""Whether a workflow can live in a topology: its data is there, and each step has a cluster to run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.checks import check_topology
from topology.model import Topology
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from topology.questions import Questions
from workflow.graph import INPUTS, driving_port, find_cycle, steps_by_name, upstream, written
from workflow.model import Binding, Place, StepUse, Workflow


def check_placing(workflow: Workflow, topology: Topology, where: Positions) -> Iterator[Problem]:
    """What is wrong with a workflow in a topology; nothing is said of one that is wrong itself."""
    if check_topology(topology):
        return
    questions = Questions(topology)
    yield from _datasets(workflow, questions, where)
    for index, use in enumerate(workflow.spec.steps):
        yield from _place(use.place, questions, ("spec", "steps", index, "place"), where)
    if not find_cycle(workflow):
        yield from _lie_together(workflow, questions, where)


def _datasets(workflow: Workflow, questions: Questions, where: Positions) -> Iterator[Problem]:
    for name, given in workflow.spec.inputs.items():
        if given.dataset is not None and given.dataset not in questions.datasets:
            remedy = did_you_mean(given.dataset, questions.datasets, "the datasets are")
            message = f"no cluster of topology {questions.topology.metadata.name} holds a dataset {given.dataset}"
            path: Path = ("spec", "inputs", name, "dataset")
            yield where.problem(path, message, remedy or "declare it in the topology's datasets")


def _place(place: Place, questions: Questions, path: Path, where: Positions) -> Iterator[Problem]:
    named = (("clusters", place.clusters, questions.clusters), ("zones", place.zones, questions.zones))
    unknown = False
    for field, names, known in named:
        for index, name in enumerate(names or ()):
            if name not in known:
                unknown = True
                remedy = did_you_mean(name, known, f"the {field} are")
                noun = field.removesuffix("s")
                yield where.problem((*path, field, index), f"there is no {noun} {name}", remedy)
    if not unknown and not _candidates(place, questions):
        message = f"topology {questions.topology.metadata.name} has no cluster {_wanted(place)}"
        yield where.problem(path, message, _nearly(place, questions))


def _candidates(place: Place, questions: Questions) -> frozenset[str]:
    """The clusters that a place allows, whatever their load and taints."""
    return frozenset(
        name
        for name, cluster in questions.clusters.items()
        if place.tier in (None, questions.tier(name))
        and (place.clusters is None or name in place.clusters)
        and (place.zones is None or cluster.zone in place.zones)
        and all(cluster.labels.get(key) == value for key, value in (place.labels or {}).items())
    )


def _wanted(place: Place) -> str:
    words = [f"of tier {place.tier}"] if place.tier is not None else []
    words += [f"called {' or '.join(place.clusters)}"] if place.clusters is not None else []
    words += [f"in zone {' or '.join(place.zones)}"] if place.zones is not None else []
    words += [f"with label {key}={value}" for key, value in (place.labels or {}).items()]
    return ", ".join(words)


def _nearly(place: Place, questions: Questions) -> str:
    """What alone keeps all clusters away, if one condition does."""
    for field in ("tier", "clusters", "zones", "labels"):
        if getattr(place, field) is not None and not _candidates(Place(**{field: getattr(place, field)}), questions):
            return f"change {field}, which no cluster has"
    return "each of these holds somewhere, but never all on one cluster: take one out"


def _lie_together(workflow: Workflow, questions: Questions, where: Positions) -> Iterator[Problem]:
    """What is paired by cluster must be on the same clusters, and its steps must be allowed to run there."""
    uses = steps_by_name(workflow)
    pinned: dict[str, str] = {}
    for index, use in enumerate(workflow.spec.steps):
        driver = driving_port(use)
        for port, binding in use.inputs.items():
            if driver is None or binding.pairing != "same_cluster":
                continue
            pinned.update(dict.fromkeys((use.name, *upstream(workflow, use.name)), use.name))
            driving = _origin(workflow, uses, use.inputs[driver], questions)
            paired = _origin(workflow, uses, binding, questions)
            if driving is None or paired is None:
                continue
            (data, at), (other, other_at) = driving, paired
            alone = sorted(at - other_at)
            copies = bool(questions.datasets[data].replicas)  # one of them is read: one beside the other data will do
            if alone and not (copies and at & other_at):
                message = f"same: cluster needs {other} wherever {data} lies, but {', '.join(alone)} has none"
                remedy = f"add {other} for {', '.join(alone)} to the topology, or leave same: cluster out"
                yield where.problem(("spec", "steps", index, "in", port), message, remedy)
    for index, use in enumerate(workflow.spec.steps):
        if use.name in pinned:
            yield from _at_its_data(workflow, uses, index, use, pinned[use.name], questions, where)


def _at_its_data(
    workflow: Workflow,
    uses: Mapping[str, StepUse],
    index: int,
    use: StepUse,
    because: str,
    questions: Questions,
    where: Positions,
) -> Iterator[Problem]:
    driver = driving_port(use)
    origin = _origin(workflow, uses, use.inputs[driver], questions) if driver is not None else None
    allowed = _candidates(use.place, questions)
    if origin is None or not allowed:
        return
    data, at = origin
    away = sorted(at - allowed)
    if away and not (questions.datasets[data].replicas and at & allowed):
        message = f"{because} pairs by cluster, so this step runs where {data} lies, but may not on {', '.join(away)}"
        path: Path = ("spec", "steps", index, "place")
        yield where.problem(path, message, f"let place allow {', '.join(away)}")


def _origin(
    workflow: Workflow, uses: Mapping[str, StepUse], binding: Binding, questions: Questions
) -> tuple[str, frozenset[str]] | None:
    """The dataset that units stem from and the clusters that hold it; None where it is several, or not known here."""
    found = {_dataset(workflow, uses, source) for source in binding.sources}
    name = found.pop() if len(found) == 1 else None
    if name is None or name not in questions.datasets:
        return None
    return name, questions.dataset_clusters(name)


def _dataset(workflow: Workflow, uses: Mapping[str, StepUse], source: str) -> str | None:
    step, port = written(source)
    while step != INPUTS:
        driver = driving_port(uses[step]) if step in uses and not uses[step].workflow else None
        if driver is None or uses[step].inputs[driver].also:
            return None
        step, port = written(uses[step].inputs[driver].source)
    given = workflow.spec.inputs.get(port)
    return given.dataset if given is not None else None
