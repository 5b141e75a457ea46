"""Whether it is clear which units make a task: each port of a step says how its units meet those of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.errors import WrongValue
from topology.problems import Path, Positions, Problem
from workflow.graph import RESERVED, driving_port, steps_by_name, written
from workflow.model import Binding, Pairing, Step, StepUse, Workflow
from workflow.placeholders import placeholders

_ONE: tuple[Pairing, ...] = ("each", "cross", "zip")  # a task takes one unit
_MEETING: tuple[Pairing, ...] = ("group", "gather_each", "zip")  # whose units come together on some cluster
_ASIDE: tuple[Pairing, ...] = ("same_cluster", "broadcast", "cross")  # what makes no tasks by itself
_GATHER = "gather: all"
_SAME = "same: cluster"
_BROADCAST = "broadcast: true"
_CROSS = "cross: true"
_ZIP = "zip: true"
_TREE = "gather: tree"
_APART = "gather: each-cluster"


def check_pairing(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """One port drives the step, or all of them gather."""
    for index, use in enumerate(workflow.spec.steps):
        path: Path = ("spec", "steps", index, "in")
        yield from _bindings(use, path, where)
        if not use.workflow:
            yield from _together(use, path, where)
        step = steps.get(use.use)
        if step is not None:
            yield from _tree(use, step, path, where)
        if step is not None and step.spec.run.command is not None:
            yield from _many_in_a_word(use, step, path, where)


def check_origins(workflow: Workflow, where: Positions) -> Iterator[Problem]:
    """Units that are paired by cluster have one: nothing before them has gathered or come from nowhere."""
    uses = steps_by_name(workflow)
    for index, use in enumerate(workflow.spec.steps):
        for port, binding in use.inputs.items():
            if binding.pairing != "same_cluster":
                continue
            path: Path = ("spec", "steps", index, "in", port)
            for name in (driving_port(use), port):
                for lost in _losing_origin(uses, use, name):
                    why = "gathers the data of all clusters" if uses[lost].inputs else "reads no data"
                    message = f"what comes in at {name} belongs to no cluster, because step {lost} {why}"
                    yield where.problem(path, message, f"pair before that step, or leave {_SAME} out")


def _bindings(use: StepUse, path: Path, where: Positions) -> Iterator[Problem]:
    for port, binding in use.inputs.items():
        words = _words(binding)
        if len(words) > 1:
            message = f"{' and '.join(words)} exclude each other"
            yield where.problem((*path, port), message, "keep the one that is meant")
        elif binding.split and words:
            message = f"what is split here comes together again at once, by {words[0]}"
            yield where.problem((*path, port, "split"), message, "leave split out")
        if binding.merge and not binding.gather:
            message = f"merge: {binding.merge} makes one file of all units, but nothing here gathers them"
            remedy = f"write {_GATHER} beside it, or {_TREE}, or {_APART}; or leave merge out"
            yield where.problem((*path, port, "merge"), message, remedy)
        if binding.store and binding.source_step == "inputs" and not (binding.split or binding.merge):
            message = "a dataset's file is read where it lies, and store is about what is made in a run"
            yield where.problem((*path, port, "store"), message, "leave store out, or split the file")


def _words(binding: Binding) -> list[str]:
    """What is said of how units come together."""
    said = {
        f"gather: {binding.gather}": binding.gather,
        _SAME: binding.same,
        _BROADCAST: binding.broadcast,
        "batch": binding.batch,
        "group": binding.group,
        _CROSS: binding.cross,
        _ZIP: binding.zip,
    }
    return [word for word, given in said.items() if given]


def _together(use: StepUse, path: Path, where: Positions) -> Iterator[Problem]:
    ports: dict[Pairing, list[str]] = {}
    for port, binding in use.inputs.items():
        ports.setdefault(binding.pairing, []).append(port)
    each = ports.get("each", [])
    aside = [port for pairing in _ASIDE for port in ports.get(pairing, ())]
    gather = [*ports.get("gather_all", []), *ports.get("gather_tree", [])]
    if len(each) > 1:
        message = f"{' and '.join(each)} can have many units each, and nothing says how they pair"
        remedy = (
            f"let one port drive, and write {{from: …, {_SAME}}}, {{from: …, {_BROADCAST}}} or {{from: …, {_CROSS}}} "
            f"at the others; or {_GATHER} or {_ZIP} at all of them, or group at all with keys that they share"
        )
        yield where.problem((*path, each[1]), message, remedy)
    if gather and len(gather) < len(use.inputs):
        others = [port for port in use.inputs if port not in gather]
        message = f"{', '.join(gather)} gathers everything into one task, but {', '.join(others)} makes many"
        yield where.problem((*path, gather[0]), message, f"write {_GATHER} at all ports of the step, or at none")
    meeting = [pairing for pairing in _MEETING if pairing in ports]
    if meeting and not gather and (each or len(meeting) > 1):
        port = ports[meeting[0]][0]
        others = [name for name in use.inputs if name != port and name not in aside and name not in ports[meeting[0]]]
        message = f"the units of {port} make tasks of their own, and so do those of {', '.join(others)}"
        remedy = f"write {_words(use.inputs[port])[0]} at these, too, or {_BROADCAST}"
        yield where.problem((*path, port), message, remedy)
    if aside and len(aside) == len(use.inputs):
        said = sorted({_words(use.inputs[port])[0] for port in aside})
        message = f"every input says {' or '.join(said)}, so none drives the step"
        yield where.problem((*path, aside[0]), message, "leave it out at one input: each of its units makes a task")
    apart = ports.get("gather_each", [])
    if merged := [port for port in apart if use.inputs[port].merge and len(apart) > 1]:
        others = [port for port in apart if port != merged[0]]
        message = (
            f"{merged[0]} merges what was made on each cluster, and so there is no file of it where only "
            f"{' or '.join(others)} has units"
        )
        remedy = f"leave merge out, which gives the step a list that may be empty; or merge with {_GATHER}"
        yield where.problem((*path, merged[0], "merge"), message, remedy)
    zipped = ports.get("zip", [])
    if len(zipped) == 1 and len(zipped) + len(aside) == len(use.inputs):
        message = f"only {zipped[0]} says {_ZIP}, so there is nothing that it could be zipped with"
        yield where.problem((*path, zipped[0]), message, f"write {_ZIP} at another input, too, or leave it out")
    crossed = ports.get("cross", [])
    if len(crossed) > 1:
        message = f"{' and '.join(crossed)} are to be crossed, and a step crosses one port with the one that drives"
        yield where.problem((*path, crossed[1]), message, "cross two of them in a step before")
    elif crossed and (meeting or any(use.inputs[port].batch for port in each)):
        message = f"{crossed[0]} can be crossed with a port whose units make a task each, and with no other"
        remedy = f"write {_BROADCAST}: every task takes all units; or leave batch and group out"
        yield where.problem((*path, crossed[0]), message, remedy)
    if ports.get("same_cluster") and meeting:
        message = f"units that come together from several clusters can't be paired by {_SAME}"
        yield where.problem((*path, ports["same_cluster"][0]), message, f"write {_BROADCAST}, or pair before that step")


def _tree(use: StepUse, step: Step, path: Path, where: Positions) -> Iterator[Problem]:
    """A tree gives a step what the step itself has made, so the two are of one kind."""
    port = next((port for port, read in use.inputs.items() if read.pairing == "gather_tree" and not read.merge), None)
    if port is None or port not in step.spec.inputs:
        return
    if len(use.inputs) > 1:
        message = f"{_TREE} is for steps with one input, and {step.reference} has {len(use.inputs)} here"
        yield where.problem((*path, port), message, f"write {_GATHER}")
        return
    if len(step.spec.outputs) != 1 or next(iter(step.spec.outputs.values())).optional:
        message = f"{_TREE} gives {step.reference} its own output to read, so it must have exactly one"
        yield where.problem((*path, port), message, f"write {_GATHER}, or take a step with one output, not optional")
        return
    takes, makes = step.spec.inputs[port], next(iter(step.spec.outputs.values()))
    found = (makes.format or takes.format, makes.form)
    if found != (takes.format or makes.format, takes.form):
        message = (
            f"{_TREE} gives {step.reference} its own output to read, "
            f"but it makes {makes.written or makes.form} and takes {takes.format or takes.form}"
        )
        yield where.problem(
            (*path, port), message, f"write {_GATHER}, or let input and output have one format and one as"
        )


def _many_in_a_word(use: StepUse, step: Step, path: Path, where: Positions) -> Iterator[Problem]:
    many = {
        port
        for port, binding in use.inputs.items()
        if (binding.pairing not in _ONE or binding.batch) and binding.merge is None
    }
    for word in step.spec.run.command or ():
        try:
            found = placeholders(word)
        except WrongValue:
            continue  # a problem of the step, and told there
        for one in found:
            if one.kind == "in" and one.name in many and word != str(one):
                message = f"{one.name} has many files here, but {step.reference} has {one} within the word {word!r}"
                remedy = f"make {one} a word of its own in the command: it becomes one word for each file"
                yield where.problem((*path, one.name), message, remedy)


def _losing_origin(uses: Mapping[str, StepUse], use: StepUse, port: str | None) -> Iterator[str]:
    """The steps before a port whose units belong to no cluster. What is within a workflow is seen when it is used."""
    seen: set[str] = set()
    ahead = [use.inputs[port]] if port is not None else []
    while ahead:
        for source in ahead.pop().sources:
            step, _ = written(source)
            if step not in uses or step in RESERVED or step in seen or uses[step].workflow:
                continue
            seen.add(step)
            driver = driving_port(uses[step])
            if driver is None:
                yield step
            else:
                ahead.append(uses[step].inputs[driver])
