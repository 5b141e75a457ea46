"""`node revoke`: cut one node off."""

from __future__ import annotations

import sys
from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.exits import UsageError
from bdw_fed.cli.options import State, connect

EXAMPLES = """\
  bdw-fed node revoke edge1/n3
"""


def command(
    node: Annotated[str, Argument("The node.", "CLUSTER/NODE")],
    state: State = None,
) -> None:
    """Refuse all certificates that one node has, and its cluster's token for nodes: at once and everywhere.

    What it held is made again from what survives. The other nodes stay in. It can join again with a new node token.
    """
    cluster, _, name = node.partition("/")
    if not cluster or not name:
        raise UsageError(f"{node!r} names no node: expected CLUSTER/NODE, as in edge1/n3")
    with connect(state, None) as client:
        known = client.revoke_node(cluster, name)
    print(f"node/{node} revoked; to let it in again: give it the file node-token that its agent has now")
    if not known:
        shown = f"bdw-fed describe cluster {cluster}"
        print(f"nobody has told of a node {name} in {cluster}: if another was meant, see {shown}", file=sys.stderr)
