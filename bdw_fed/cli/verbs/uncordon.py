"""`uncordon`: a cluster takes part again."""

from __future__ import annotations

from bdw_fed.cli.options import ClusterName, State, connect

EXAMPLES = """\
  bdw-fed uncordon edge-jfk
"""


def command(cluster: ClusterName, state: State = None) -> None:
    """Plan to a cluster again, after `cordon` or `drain`."""
    from bdw_fed.cli.marking import CORDONED, DRAINING

    with connect(state, None) as client:
        client.mark(cluster, take=[CORDONED, DRAINING])
    print(f"cluster {cluster} takes part")
