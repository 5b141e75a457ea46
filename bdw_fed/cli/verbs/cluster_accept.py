"""`cluster accept`: let in a cluster that waits."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.options import State, connect

EXAMPLES = """\
  bdw-fed cluster accept edge1
  bdw-fed cluster accept edge1 --key sha256:5d0c…      where several wait
"""


def command(
    cluster: Annotated[str, Argument("Name of the cluster.", "CLUSTER")],
    key: Annotated[str, Option(("--key",), "Hash of its key, as its agent shows it and 'token list -o wide'.")] = "",
    state: State = None,
) -> None:
    """Let in a cluster that has joined with a token that asks for this. It gets its certificate within seconds."""
    with connect(state, None) as client:
        token = client.accept_cluster(cluster, key=key)
    print(f"cluster/{cluster} accepted, with the key {token.key} that came from {token.presented_from}")
