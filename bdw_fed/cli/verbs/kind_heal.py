"""`kind heal`: undo partitions."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.exits import OK, UsageError
from bdw_fed.cli.verbs.kind_up import KindState

EXAMPLES = """\
  bdw-fed kind heal edge1 edge2
  bdw-fed kind heal                        all partitions
"""


def command(
    a: Annotated[str | None, Argument("A cluster.", "A")] = None,
    b: Annotated[str | None, Argument("Another one.", "B")] = None,
    state: KindState = None,
) -> int:
    """Undo the partition of two clusters, or all partitions."""
    from bdw_fed.cli.kind import place_of, refused
    from bdw_fed.kind import network
    from bdw_fed.kind.state import read_state

    if a and not b:
        raise UsageError(f"{a} and which other cluster? Name two, or none for all partitions")
    with refused():
        healed = network.heal(read_state(place_of(state)), a or "", b or "")
    print("\n".join(f"{one} and {other} reach each other" for one, other in healed) or "there is no partition")
    return OK
