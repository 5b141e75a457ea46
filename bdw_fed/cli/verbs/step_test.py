"""`step test`: a step on a sample, without a federation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import NEGATIVE, OK, UsageError
from bdw_fed.cli.options import Parameters, parameters_from

if TYPE_CHECKING:
    from bdw_fed.steps.sample import Sample
    from bdw_fed.steps.trial import Tried

EXAMPLES = """\
  bdw-fed step test                             the step in step.yaml here, on sample/
  bdw-fed step test clean-rows -p min_length=3
  bdw-fed step test --sample samples/large --to /tmp/out
  bdw-fed step test steps.yaml --step join@1    one of several steps in a file
"""


def command(
    project: Annotated[Path | None, Argument("The step's directory, or its YAML file. Default: here.", "DIR")] = None,
    sample: Annotated[
        Path | None, Option(("--sample",), "Directory with in/ and expected/. Default: sample, beside the file.", "DIR")
    ] = None,
    parameter: Parameters = None,
    step: Annotated[str, Option(("--step",), "Which step, where there are several.", "NAME@VERSION")] = "",
    to: Annotated[
        Path | None, Option(("--to",), "Directory for the outputs. Default: out, beside the file.", "DIR")
    ] = None,
    python: Annotated[str, Option(("--python",), "Interpreter of Python steps. Default: ours.", "PATH")] = "",
) -> int:
    """Execute a step on a sample as a node would, and compare what it makes with what is expected.

    Its program runs as a process of this machine, without its image. A sample has inputs in `in`, a file for each port
    (or a directory for many units), and where something is expected the outputs in `expected`.

    Exits 0 if the step succeeds and nothing differs, else 1.
    """
    import asyncio
    import sys

    from bdw_fed.steps.definition import read_definition, values
    from bdw_fed.steps.errors import StepError
    from bdw_fed.steps.sample import read_sample
    from bdw_fed.steps.trial import try_step

    def say(stream: int, data: bytes) -> None:
        (sys.stdout if stream == 1 else sys.stderr).write(data.decode("utf-8", "backslashreplace"))

    if to is not None and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"--to {to} is not empty; outputs are put into a directory of their own")
    place = project or Path()
    file = place / "step.yaml" if place.is_dir() else place
    try:
        defined = read_definition(file, step)
        given = read_sample(sample or file.parent / "sample", defined)
        filled = values(defined, parameters_from(parameter or []))
        target = to or file.parent / "out"
        tried = asyncio.run(try_step(defined, file.parent, given, filled, target, python or sys.executable, say))
    except StepError as error:
        raise UsageError(str(error)) from None
    return _told(defined.reference, given, tried)


def _told(reference: str, sample: Sample, tried: Tried) -> int:
    """Show what came of it; the exit code."""
    from bdw_fed.cli.output import show_table
    from bdw_fed.cli.quantities import size
    from bdw_fed.steps.sample import difference

    if tried.failure is not None:
        failure = tried.failure
        print(f"{reference} failed ({failure.kind}): {failure.message}")
        if failure.detail:
            print(failure.detail.rstrip())
        return NEGATIVE
    rows, code = [], OK
    for port, made in tried.outputs.items():
        judged = "-"
        if sample.expected is not None:
            differs = difference(sample.expected.get(port, ()), made)
            judged = differs or "as expected"
            code = NEGATIVE if differs else code
        where = str(made[0] if len(made) == 1 else made[0].parent) if made else "-"
        rows.append([port, str(len(made)), size(sum(path.stat().st_size for path in made)), where, judged])
    if rows:
        show_table(["OUTPUT", ">UNITS", ">SIZE", "WHERE", "RESULT"], rows)
    if code:
        print(f"{reference} differs from what is expected")
    else:
        print(f"{reference} {'succeeded' if sample.expected is None else 'did what is expected'}")
    return code
