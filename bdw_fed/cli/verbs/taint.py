"""`taint`: keep steps that don't tolerate it away from a cluster, for the time being."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.options import ClusterName, State, connect

EXAMPLES = """\
  bdw-fed taint edge-jfk shared=true:PreferNoSchedule
  bdw-fed taint edge-jfk broken:NoExecute       what waits there goes elsewhere
  bdw-fed taint edge-jfk broken-                take it away again
"""


def command(
    cluster: ClusterName,
    taints: Annotated[
        list[str], Argument("KEY:EFFECT or KEY=VALUE:EFFECT to put; KEY- or KEY:EFFECT- to take away.", "TAINT")
    ],
    state: State = None,
) -> None:
    """Put taints on a cluster, beside those of its topology, or take them from it.

    Effects, as in Kubernetes: NoSchedule, PreferNoSchedule, NoExecute.
    """
    from bdw_fed.cli.marking import parsed, shown

    put, take = parsed(taints)
    with connect(state, None) as client:
        marks = client.mark(cluster, put, take).marks
    print(f"cluster {cluster}: {shown(marks.taints) or 'no taints beside those of its topology'}")
