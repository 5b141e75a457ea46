"""`step init`: a project for a step of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import CONFLICT, RefusedError, UsageError

EXAMPLES = """\
  bdw-fed step init clean-rows                     a Python function
  bdw-fed step init classify --kind service        a process that stays: one model, many tasks at a time
  bdw-fed step init convert --kind directory       one that watches a directory
  cd clean-rows && bdw-fed step test
"""


def command(
    name: Annotated[str, Argument("Name of the step.", "NAME")],
    kind: Annotated[str, Option(("--kind", "-k"), "python, command, service or directory.", "KIND")] = "python",
    to: Annotated[Path | None, Option(("--to",), "Directory to make. Default: the step's name.", "DIR")] = None,
) -> None:
    """Make a directory with a step that works: its definition, code, Dockerfile, a sample and a test."""
    from bdw_fed.steps.errors import StepError, ThereAlreadyError
    from bdw_fed.steps.project import make_project

    directory = to or Path(name)
    try:
        made = make_project(name, kind, directory)
    except ThereAlreadyError as error:
        raise RefusedError(str(error), CONFLICT) from None
    except StepError as error:
        raise UsageError(str(error)) from None
    for path in made:
        print(path)
    print(f"try it: bdw-fed step test {directory}")
