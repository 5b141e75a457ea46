"""`kind partition`: cut two clusters off from each other."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.exits import OK
from bdw_fed.cli.verbs.kind_up import KindState

EXAMPLES = """\
  bdw-fed kind partition edge1 edge2
  bdw-fed kind partition edge1 cloud1      the hub, too, if it is in cloud1
"""
One = Annotated[str, Argument("A cluster.", "A")]
Other = Annotated[str, Argument("Another one.", "B")]


def command(a: One, b: Other, state: KindState = None) -> int:
    """Drop all packets between two clusters, until 'kind heal'."""
    from bdw_fed.cli.kind import place_of, refused
    from bdw_fed.kind import network
    from bdw_fed.kind.state import read_state

    with refused():
        network.partition(read_state(place_of(state)), a, b)
    print(f"{a} and {b} don't reach each other")
    return OK
