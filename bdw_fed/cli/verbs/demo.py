"""`demo`: the flights example, from nothing to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option

EXAMPLES = """\
  python examples/flights/prepare.py && bdw-fed demo
  bdw-fed demo --keep          leave the federation up, to look around
"""


def command(
    example: Annotated[Path, Option(("--example",), "Directory of the example, in the repository.", "DIR")] = Path(
        "examples/flights"
    ),
    to: Annotated[Path, Option(("--to",), "Where the results go.", "DIR")] = Path("out/flights"),
    state: Annotated[
        Path, Option(("--state",), "State directory; what an earlier demo left there is removed.", "DIR")
    ] = Path("out/demo-state"),
    keep: Annotated[bool, Option(("--keep",), "Leave the federation up.")] = False,
) -> int:
    """Start a federation of three airports and a cloud, run the flights example on it, and show what happened.

    Exits 0 only if the run succeeded and its report equals the one computed in one pass.
    """
    from bdw_fed.cli.demonstration import demonstrate

    return demonstrate(example, to.absolute(), state.absolute(), keep=keep)
