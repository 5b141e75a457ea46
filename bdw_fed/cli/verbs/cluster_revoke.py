"""`cluster revoke`: cut a cluster off."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.options import State, connect

EXAMPLES = """\
  bdw-fed cluster revoke edge1
"""


def command(
    cluster: Annotated[str, Argument("Name of the cluster.", "CLUSTER")],
    state: State = None,
) -> None:
    """Refuse all certificates that a cluster and its nodes have, and its tokens: at once, everywhere and for good.

    What is under way there is lost to the federation. The cluster can join again, as a new member, with a new token.
    """
    with connect(state, None) as client:
        client.revoke_cluster(cluster)
    print(f"cluster/{cluster} revoked; to let it in again: bdw-fed token create --cluster {cluster}")
