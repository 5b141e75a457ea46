"""What the state of a pod means for the worker that it is, or shall become.

`reasons` says what is wrong with a pod; this says whether that may get better by itself, and how long to wait for it.
Pure.
"""

from __future__ import annotations

import re
from typing import Final

from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import Cause, Reason, reason_of

LINK_SECONDS: Final = 30.0  # from a container that runs to its starter's answer
START_SECONDS: Final = 900.0  # for all of it; large images take their time
_PATIENCE: Final = {
    Cause.UNSCHEDULABLE: 5.0,  # the scheduler may not have heard yet of a pod that is gone
    Cause.VOLUME: 30.0,
    Cause.CONFIGURATION: 10.0,  # the kubelet tries again
    Cause.IMAGE: 60.0,  # three or four pulls
}
# What a registry says of an image that is not there, or not for us: the next pull is told the same.
_NO_SUCH_IMAGE: Final = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|denied|unauthorized|no basic auth|InvalidImageName"
    r"|ErrImageNeverPull|couldn't parse image|invalid reference|no match for platform|is not present with pull policy",
    re.IGNORECASE,
)
_KINDS: Final = {Cause.OUT_OF_MEMORY: "memory"}


def patience(reason: Reason) -> float:
    """For how many seconds a pod that does not come up, for this reason, may still do so."""
    if reason.cause is Cause.IMAGE and _NO_SUCH_IMAGE.search(reason.text):
        return 0.0
    return _PATIENCE.get(reason.cause, 0.0)


def hopeless(pod: Pod) -> bool:
    """Whether a pod that does not come up never will."""
    reason = reason_of(pod)
    return reason is not None and not patience(reason)


def runs(pod: Pod) -> bool:
    """Whether the worker's container is running."""
    return any(status.state.running is not None for status in pod.status.container_statuses)


def end_of(pod: Pod) -> Reason | None:
    """Why a pod is no worker any more, or will soon be none; None while it may be one, or become one."""
    over = pod.status.phase in ("Failed", "Succeeded")
    if over or any(status.state.terminated is not None for status in pod.status.container_statuses):
        return reason_of(pod) or Reason(Cause.FAILED, "the pod's starter has ended")
    if pod.metadata.deletion_timestamp is not None:
        reason = reason_of(pod)
        if reason is not None and reason.cause in (Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST):
            return reason
        return Reason(Cause.DELETED, "the pod was deleted")
    return None


def failure_kind(reason: Reason) -> str:
    """The kind of failure of a task that was executed in a pod which ended so."""
    return _KINDS.get(reason.cause, "lost")
