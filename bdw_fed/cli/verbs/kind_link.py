"""`kind link`: give the link between two clusters a bandwidth."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import OK, UsageError
from bdw_fed.cli.verbs.kind_partition import One, Other
from bdw_fed.cli.verbs.kind_up import KindState

EXAMPLES = """\
  bdw-fed kind link edge1 cloud1 --bandwidth 50Mbit
  bdw-fed kind link edge1 cloud1 --bandwidth none
"""


def command(
    a: One,
    b: Other,
    bandwidth: Annotated[str, Option(("--bandwidth",), "For example 50Mbit; none: as fast as it is.", "BANDWIDTH")],
    state: KindState = None,
) -> int:
    """Let no node of one of two clusters send faster than this to the other, in either direction."""
    from bdw_fed.cli.kind import place_of, refused
    from bdw_fed.kind import network
    from bdw_fed.kind.state import read_state
    from topology.errors import WrongValue
    from topology.quantity import parse_bandwidth

    try:
        rate = 0.0 if bandwidth == "none" else parse_bandwidth(bandwidth)
    except WrongValue as error:
        raise UsageError(f"--bandwidth: {error.message}") from error
    with refused():
        network.limit(read_state(place_of(state)), a, b, rate)
    print(f"between {a} and {b}: {bandwidth if rate else 'no limit'}")
    return OK
