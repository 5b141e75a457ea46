"""How a verb ends: its exit code, and what is said on standard error when it did not go well."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bdw_fed.v1.control_plane_pb2 import Problem

OK = 0
NEGATIVE = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4
CONFLICT = 5
INTERRUPTED = 130

CODES_HELP = """\b
Exit codes:
  0 done    1 the run failed, or the answer is no    2 usage, or what was given is not valid
  3 not found    4 not reachable just now    5 conflict    130 interrupted
"""


class UsageError(Exception):
    """What was typed can't be meant; the message says what was expected."""


class RefusedError(Exception):
    """The answer is no, for the reason given. `code` is the exit code."""

    def __init__(self, message: str, code: int = NEGATIVE) -> None:
        super().__init__(message)
        self.code = code


def run_verb(verb: str, call: Callable[[], int | None]) -> int:
    """Run a verb; whatever happens becomes an exit code and, where it went wrong, words for a person."""
    try:
        code = call() or OK
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read our output has gone, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except UsageError as error:
        _say(f"bdw-fed {verb}: {error}")
        _say(f"try: bdw-fed {verb} --help")
        return USAGE
    except RefusedError as error:
        _say(f"bdw-fed {verb}: {error}")
        return error.code
    except Exception as error:
        expected = _code_of(error)
        if expected is None:
            raise
        code = expected
        problems: list[Problem] = getattr(error, "problems", [])
        if problems:
            print_problems(problems)
        else:
            _say(f"bdw-fed {verb}: {error}")
    return code


def _code_of(error: Exception) -> int | None:
    """The exit code for an error that is expected to happen; None for one that is a bug of ours."""
    if isinstance(error, OSError) and error.filename is not None:
        return USAGE
    wire = sys.modules.get("wire.errors")  # not imported = nothing of it was raised
    if wire is not None and isinstance(error, wire.ProblemError):
        return USAGE
    if "bdw_fed.client.errors" not in sys.modules:
        return None
    from bdw_fed.client import errors

    if not isinstance(error, errors.ClientError):
        return None
    for kind, code in (
        (errors.Problems, USAGE),
        (errors.NoProfile, USAGE),
        (errors.NotFound, NOT_FOUND),
        (errors.Unavailable, UNAVAILABLE),
        (errors.Conflict, CONFLICT),
    ):
        if isinstance(error, kind):
            return code
    return NEGATIVE


def print_problems(problems: Iterable[Problem], kind: str = "") -> None:
    """Each problem as `FILE:LINE: FIELD: MESSAGE`, its remedy on the line below."""
    from wire.errors import line

    for problem in problems:
        _say(f"{kind}{line(problem)}")
        if problem.remedy:
            _say(f"  {problem.remedy}")


def print_warnings(problems: Iterable[Problem]) -> None:
    """What is allowed, but was hardly meant, for who reads standard error."""
    print_problems(problems, "warning: ")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
