"""Whether a step's definition holds together: what its command or function names is declared, and nothing collides."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from workflow.checks.declared import check_declared
from workflow.formats import DIRECTORY
from workflow.model import Kind, Pool, Step
from workflow.placeholders import Placeholder, placeholders

_RESERVED_VARIABLES = "BDW_FED_"
_IN_WORDS = {
    "command": "a command",
    "service": "a service's words",
    "directory": "a directory's entry",
    "arguments": "a directory's arguments",
}
_INSTEAD = {
    "command": "items are of the workflow that repeats the step, and can be given to it by a parameter",
    "service": "a service is told of files and parameters with each task",
    "directory": "parameters stand in arguments, and files come by the directory",
    "arguments": "files come by the directory, and only {param.NAME} can stand here",
}
_WHAT = {
    "in": ("input", "inputs"),
    "out": ("output", "outputs"),
    "param": ("parameter", "parameters"),
    "secret": ("secret", "secrets"),
}


def check_step(step: Step, positions: Positions | None = None) -> list[Problem]:
    """What is wrong with a step that is well formed."""
    where = positions or Positions()
    return [
        *check_declared(step.spec.parameters, ("spec", "parameters"), where),
        *_CHECKS[step.spec.run.kind](step, where),
        *_environment(step, where),
        *check_pool(step.spec.pool, ("spec", "pool"), where),
    ]


def step_warnings(step: Step, positions: Positions | None = None) -> list[Problem]:
    """What is allowed, but was hardly meant."""
    where = positions or Positions()
    run = step.spec.run
    warnings = []
    if run.kind in ("command", "directory"):
        told = run.command if run.command is not None else run.arguments
        subject = "the command does" if run.command is not None else "the directory's arguments do"
        named = {(one.kind, one.name) for word in told for one in _parsed(word)}
        for kind, names in _declared(step).items():
            for name in names:
                if (kind, name) not in named and (kind == "param" or (run.command is not None and kind != "secret")):
                    noun, field = _WHAT[kind]
                    message = f"{subject} not name {noun} {name}"
                    remedy = f"write {{{kind}.{name}}} where the program takes it, or leave it out"
                    warnings.append(where.problem(("spec", field, name), message, remedy, "warning"))
    elif run.kind == "python" and run.bundle is None and run.image is None:
        module = (run.python or "").partition(":")[0]
        message = f"nothing says where module {module} comes from"
        remedy = "add bundle: ./DIRECTORY or image: IMAGE, unless every node has it installed"
        warnings.append(where.problem(("spec", "run", "python"), message, remedy, "warning"))
    return warnings


def check_pool(pool: Pool, path: Path, where: Positions) -> Iterator[Problem]:
    """Whether a pool's bounds leave room."""
    if pool.max and pool.min > pool.max:
        message = f"at least {pool.min} workers, but at most {pool.max}"
        yield where.problem((*path, "min"), message, "lower min or raise max")


def _declared(step: Step) -> dict[str, Iterable[str]]:
    spec = step.spec
    return {"in": spec.inputs, "out": spec.outputs, "param": spec.parameters, "secret": spec.secrets}


def _parsed(word: str) -> tuple[Placeholder, ...]:
    try:
        return placeholders(word)
    except WrongValue:
        return ()


def _command(step: Step, where: Positions) -> Iterator[Problem]:
    yield from _files_alone(step, where)
    yield from _placeholders(step, "command", step.spec.run.words, ("in", "out", "param", "secret", "bundle"), where)


def _service(step: Step, where: Positions) -> Iterator[Problem]:
    """It is started before there is any task, and told of them later."""
    yield from _files_alone(step, where)
    yield from _placeholders(step, "service", step.spec.run.words, ("secret", "bundle"), where)


def _directory(step: Step, where: Positions) -> Iterator[Problem]:
    """Files come in by one directory, and results leave by another: there are no names for ports there."""
    yield from _files_alone(step, where)
    yield from _placeholders(step, "directory", step.spec.run.words, ("secret", "bundle"), where)
    yield from _placeholders(step, "arguments", step.spec.run.arguments, ("param",), where)
    if len(step.spec.inputs) != 1:
        message = f"a directory is fed by one input, and here are {len(step.spec.inputs)}"
        yield where.problem(("spec", "inputs"), message, "declare exactly one input, or run the step by command")
    if len(step.spec.outputs) > 1:
        message = f"all that a directory makes is one output's, and here are {len(step.spec.outputs)}"
        yield where.problem(("spec", "outputs"), message, "keep one output, or run the step by command")


def _placeholders(
    step: Step, field: str, words: Iterable[str], meant: Iterable[str], where: Positions
) -> Iterator[Problem]:
    declared = _declared(step)
    for index, word in enumerate(words):
        path: Path = ("spec", "run", field, index)
        try:
            found = placeholders(word)
        except WrongValue as wrong:
            yield where.problem(path, wrong.message, wrong.remedy)
            continue
        for one in found:
            if one.kind not in meant:
                message = f"{one} has no meaning in {_IN_WORDS[field]}"
                yield where.problem(path, message, f"leave it out: {_INSTEAD[field]}")
            elif one.kind == "bundle":
                if step.spec.run.bundle is None:
                    message = f"{{bundle}} stands in the {field}, but the step has no bundle"
                    yield where.problem(path, message, "add bundle: ./DIRECTORY to run")
            elif one.name not in declared[one.kind]:
                noun, plural = _WHAT[one.kind]
                remedy = (
                    did_you_mean(one.name, declared[one.kind], f"the {noun}s are") or f"declare it in spec.{plural}"
                )
                yield where.problem(path, f"{one} names no {noun} of this step", remedy)


def _files_alone(step: Step, where: Positions) -> Iterator[Problem]:
    """A program gets the files of its ports, and nothing else."""
    kind = step.spec.run.kind
    for field, ports in (("inputs", step.spec.inputs), ("outputs", step.spec.outputs)):
        for name, port in ports.items():
            if port.form != "path":
                message = (
                    f"a {kind} reads and writes files, so expected as: path; as: {port.form} is for Python functions"
                )
                remedy = "leave as out, or run the step by python"
                yield where.problem(("spec", field, name, "as"), message, remedy)


def _function(step: Step, where: Positions) -> Iterator[Problem]:
    """A function gets inputs and parameters as keyword arguments, and paths of outputs as `out`."""
    for field, ports in (("inputs", step.spec.inputs), ("outputs", step.spec.outputs)):
        for name, port in ports.items():
            if port.format == DIRECTORY and port.form != "path":
                message = f"{name} is a directory, which has a path and no value, so expected as: path"
                yield where.problem(("spec", field, name, "as"), message, "leave as out, or take another format")
    for field, names in (("inputs", step.spec.inputs), ("parameters", step.spec.parameters)):
        for name in names:
            path: Path = ("spec", field, name)
            noun = field.removesuffix("s")
            if name == "out":
                message = f"an {noun}" if noun == "input" else f"a {noun}"
                message += " of a Python step can't be called out: the function gets the outputs' paths by that name"
                yield where.problem(path, message, "rename it")
            elif keyword.iskeyword(name):
                message = f"{name} is a word of Python, so the function can't have an argument of that name"
                yield where.problem(path, message, f"rename it, for example {name}_")
            elif field == "parameters" and name in step.spec.inputs:
                message = f"{name} is an input, too; the function gets both by name"
                yield where.problem(path, message, "rename one of them")


def _environment(step: Step, where: Positions) -> Iterator[Problem]:
    for name in step.spec.run.env:
        if name.startswith(_RESERVED_VARIABLES):
            message = f"variables that start with {_RESERVED_VARIABLES} are set by bdw-fed"
            yield where.problem(("spec", "run", "env", name), message, "choose another name")


_CHECKS: Mapping[Kind, Callable[[Step, Positions], Iterator[Problem]]] = {
    "python": _function,
    "command": _command,
    "service": _service,
    "directory": _directory,
}
