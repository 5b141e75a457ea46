"""`cordon`: nothing new is planned to a cluster."""

from __future__ import annotations

from bdw_fed.cli.options import ClusterName, State, connect

EXAMPLES = """\
  bdw-fed cordon edge-jfk
"""


def command(cluster: ClusterName, state: State = None) -> None:
    """Plan nothing new to a cluster; what goes on there goes on. A step whose data lies there can't be planned."""
    from bdw_fed.cli.marking import CORDONED, taint

    with connect(state, None) as client:
        client.mark(cluster, [taint(CORDONED, "NoSchedule")])
    print(f"cluster {cluster} is cordoned")
