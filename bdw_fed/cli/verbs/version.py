"""`version`: of this program and of the hub."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import State, connect

EXAMPLES = """\
  bdw-fed version
  bdw-fed version --hub
"""


def command(
    hub: Annotated[bool, Option(("--hub",), "Ask the hub and the agents for theirs too.")] = False,
    state: State = None,
) -> None:
    """Print the version of this program; with --hub, also those of the hub and the agents."""
    from importlib.metadata import version

    print(f"bdw-fed {version('bdw-fed')}")
    if hub:
        with connect(state, None) as client:
            status = client.status()
        print(f"hub {status.version}")
        for cluster in status.clusters:
            print(f"agent {cluster.name} {cluster.version or 'unknown'}")
