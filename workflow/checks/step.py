"""Whether a step's definition holds together: what its command or function names is declared, and nothing collides."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Iterator, Mapping

from topology.errors import WrongValue
from topology.nearest import did_you_mean
from topology.problems import Path, Positions, Problem
from workflow.checks.declared import check_declared
from workflow.model import InputPort, OutputPort, Pool, Step
from workflow.placeholders import Placeholder, placeholders

_RESERVED_VARIABLES = "BDW_FED_"
_WHAT = {"in": ("input", "inputs"), "out": ("output", "outputs"), "param": ("parameter", "parameters")}


def check_step(step: Step, positions: Positions | None = None) -> list[Problem]:
    """What is wrong with a step that is well formed."""
    where = positions or Positions()
    return [
        *check_declared(step.spec.parameters, ("spec", "parameters"), where),
        *(_command(step, where) if step.spec.run.command is not None else _function(step, where)),
        *_environment(step, where),
        *check_pool(step.spec.pool, ("spec", "pool"), where),
    ]


def step_warnings(step: Step, positions: Positions | None = None) -> list[Problem]:
    """What is allowed, but was hardly meant."""
    where = positions or Positions()
    run = step.spec.run
    warnings = []
    if run.command is not None:
        named = {(one.kind, one.name) for word in run.command for one in _parsed(word)}
        for kind, names in _declared(step).items():
            for name in names:
                if (kind, name) not in named:
                    noun, field = _WHAT[kind]
                    message = f"the command does not name {noun} {name}"
                    remedy = f"write {{{kind}.{name}}} where the program takes it, or leave it out"
                    warnings.append(where.problem(("spec", field, name), message, remedy, "warning"))
    elif run.bundle is None and run.image is None:
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
    return {"in": step.spec.inputs, "out": step.spec.outputs, "param": step.spec.parameters}


def _parsed(word: str) -> tuple[Placeholder, ...]:
    try:
        return placeholders(word)
    except WrongValue:
        return ()


def _command(step: Step, where: Positions) -> Iterator[Problem]:
    declared = _declared(step)
    yield from _forms("inputs", step.spec.inputs, where)
    yield from _forms("outputs", step.spec.outputs, where)
    for index, word in enumerate(step.spec.run.command or ()):
        path: Path = ("spec", "run", "command", index)
        try:
            found = placeholders(word)
        except WrongValue as wrong:
            yield where.problem(path, wrong.message, wrong.remedy)
            continue
        for one in found:
            if one.kind == "bundle" and step.spec.run.bundle is None:
                message = "{bundle} stands in the command, but the step has no bundle"
                yield where.problem(path, message, "add bundle: ./DIRECTORY to run")
            elif one.kind != "bundle" and one.name not in declared[one.kind]:
                noun, field = _WHAT[one.kind]
                remedy = did_you_mean(one.name, declared[one.kind], f"the {noun}s are") or f"declare it in spec.{field}"
                yield where.problem(path, f"{one} names no {noun} of this step", remedy)


def _forms(field: str, ports: Mapping[str, InputPort | OutputPort], where: Positions) -> Iterator[Problem]:
    """A program gets the files of its ports, and nothing else."""
    for name, port in ports.items():
        if port.form != "path":
            message = f"a command reads and writes files, so expected as: path; as: {port.form} is for Python functions"
            yield where.problem(("spec", field, name, "as"), message, "leave as out, or run the step by python")


def _function(step: Step, where: Positions) -> Iterator[Problem]:
    """A function gets inputs and parameters as keyword arguments, and paths of outputs as `out`."""
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
