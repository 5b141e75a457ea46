"""Whether units that are whole directories meet only what can take them: ports of directories, tars, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from topology.problems import Path, Positions, Problem
from workflow.formats import DIRECTORY
from workflow.graph import format_of
from workflow.model import Binding, Step, Workflow, WorkflowOutput


def check_directories(workflow: Workflow, steps: Mapping[str, Step], where: Positions) -> Iterator[Problem]:
    """One port has either directories or files, and directories are merged as what they are kept as."""
    for index, use in enumerate(workflow.spec.steps):
        reader = steps.get(use.use)
        for port, binding in use.inputs.items():
            path: Path = ("spec", "steps", index, "in", port)
            declared = reader.spec.inputs.get(port) if reader is not None else None
            yield from _merged(workflow, steps, binding, path, where)
            if declared is not None and declared.format is None:
                yield from _mixed(workflow, steps, binding, path, where)
    for name, output in workflow.spec.outputs.items():
        yield from _merged(workflow, steps, output, ("spec", "outputs", name), where)
        yield from _mixed(workflow, steps, output, ("spec", "outputs", name), where)


def _merged(
    workflow: Workflow, steps: Mapping[str, Step], reads: Binding | WorkflowOutput, path: Path, where: Positions
) -> Iterator[Problem]:
    directories, _ = _told_apart(workflow, steps, reads)
    if directories and reads.merge not in (None, "tar"):
        message = f"{directories[0]} gives directories, which can't be merged as {reads.merge}"
        remedy = "write merge: tar, which puts what is in them all into one, or leave merge out"
        yield where.problem((*path, "merge"), message, remedy)


def _mixed(
    workflow: Workflow, steps: Mapping[str, Step], reads: Binding | WorkflowOutput, path: Path, where: Positions
) -> Iterator[Problem]:
    directories, files = _told_apart(workflow, steps, reads)
    if directories and files:
        message = f"{directories[0]} gives directories and {files[0]} files, and what comes here could be either"
        yield where.problem((*path, "also"), message, "give each an input, or an output, of its own")


def _told_apart(
    workflow: Workflow, steps: Mapping[str, Step], reads: Binding | WorkflowOutput
) -> tuple[list[str], list[str]]:
    """What it reads, as written: directories, and what is none."""
    directories: list[str] = []
    files: list[str] = []
    for source in reads.sources:
        (directories if format_of(workflow, steps, source) == DIRECTORY else files).append(source)
    return directories, files
