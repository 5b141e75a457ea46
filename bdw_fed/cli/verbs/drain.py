"""`drain`: empty a cluster."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import NEGATIVE, OK
from bdw_fed.cli.options import ClusterName, State, connect

EXAMPLES = """\
  bdw-fed drain edge-jfk --deadline 10m --wait
  bdw-fed uncordon edge-jfk
"""
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 15.0  # after the deadline runs begin again within


def command(
    cluster: ClusterName,
    deadline: Annotated[
        str, Option(("--deadline",), "Runs that may begin again without the cluster do so after so long.", "DURATION")
    ] = "",
    wait: Annotated[
        bool, Option(("--wait", "-w"), "Until no run has a part there; with a deadline, until that has passed.")
    ] = False,
    state: State = None,
) -> int:
    """Plan nothing new to a cluster, and empty it: units that can be executed elsewhere go there, others finish.

    At the deadline, runs with disconnect.replace begin again without it. Exits 1 if runs still have a part there.
    """
    import time

    from bdw_fed.cli.marking import CORDONED, DRAINING, seconds_of, taint

    seconds = seconds_of(deadline, "--deadline") if deadline else 0.0
    empty_by = time.time() + seconds if seconds else 0.0
    until = time.monotonic() + seconds + _GRACE_SECONDS if seconds else float("inf")
    with connect(state, None) as client:
        put = [taint(CORDONED, "NoSchedule"), taint(DRAINING, "NoExecute")]
        left = client.mark(cluster, put, empty_by=empty_by).runs
        while wait and left and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            left = client.mark(cluster).runs
    if not left:
        print(f"cluster {cluster} is empty")
        return OK
    print(f"cluster {cluster} is being drained; runs with a part there: {', '.join(left)}")
    return NEGATIVE if wait else OK
