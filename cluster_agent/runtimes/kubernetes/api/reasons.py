"""Why a pod does not run, in words for whoever wrote the step.
 Kubernetes spreads the answer over the pod's phase, its conditions, the states of its containers (now and before the
last restart) and events that other parts wrote. `reason_of` reads them in the order of what explains most: first what
ended the whole pod, then what keeps a container from running, then what keeps the pod from a node. What a creation
was refused for is in the `ApiError`: `reason_of_refusal`. Pure: a pod, its events and the container's last words in,
a `Reason` out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from cluster_agent.runtimes.kubernetes.api.errors import AdmissionDenied, ApiError, QuotaExceeded, one_line
from cluster_agent.runtimes.kubernetes.api.objects.event import Event
from cluster_agent.runtimes.kubernetes.api.objects.pod import (
    Container,
    ContainerStatus,
    Pod,
    PodCondition,
    Terminated,
    Waiting,
)

WORDS: Final = 500


class Cause(StrEnum):
    """What it comes down to."""

    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out of memory"
    CRASH_LOOP = "crash loop"
    FAILED = "failed"
    CONFIGURATION = "configuration"
    VOLUME = "volume"
    QUOTA = "quota"
    ADMISSION = "admission"
    NODE_LOST = "node lost"
    NODE_REFUSED = "node refused"
    DEADLINE = "deadline"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Reason:
    """The cause, a line for people, and where there is one the container and how it ended."""

    cause: Cause
    text: str
    container: str = ""
    exit_code: int | None = None


_IMAGE: Final = frozenset(
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    ]
)
_CONFIGURATION: Final = frozenset(
    [
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
    ]
)
_NOT_STARTED: Final = frozenset(["StartError", "ContainerCannotRun"])
_VOLUME: Final = frozenset(["FailedMount", "FailedAttachVolume", "FailedMapVolume"])
_ENDS: Final = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "NodeLost": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,
    "Terminated": Cause.NODE_LOST,
    "Shutdown": Cause.NODE_LOST,
    "DeadlineExceeded": Cause.DEADLINE,
    "NodeAffinity": Cause.NODE_REFUSED,
    "UnexpectedAdmissionError": Cause.NODE_REFUSED,
}
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "PreemptionByKubeScheduler": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
    "TerminationByKubelet": Cause.EVICTED,
}
_ENDED: Final = {
    Cause.EVICTED: "the pod was evicted",
    Cause.PREEMPTED: "the pod gave way to one of higher priority",
    Cause.NODE_LOST: "the pod's node was lost or shut down",
    Cause.DEADLINE: "the pod ran for longer than it may",
    Cause.NODE_REFUSED: "the node refused the pod",
}


def reason_of(pod: Pod, events: Sequence[Event] = (), last_words: str = "") -> Reason | None:
    """Why the pod doesn't run, or has ended badly; None if nothing is wrong with it, as far as can be told.

    `events` may be of other objects, too; `last_words` is what the container wrote last, if somebody has read its log.
    """
    if pod.status.phase == "Succeeded":
        return None
    remarks = _about(pod, events)
    return (
        _end_of_pod(pod)
        or _of_containers(pod, last_words)
        or _of_scheduling(pod, remarks)
        or _of_volumes(pod, remarks)
        or _of_failure(pod)
    )


def reason_of_refusal(error: ApiError) -> Reason | None:
    """Why the API server would not create a pod, where its answer was that it may not be."""
    match error:
        case QuotaExceeded():
            return Reason(Cause.QUOTA, f"the namespace's quota has no room: {error}")
        case AdmissionDenied():
            return Reason(Cause.ADMISSION, f"a policy of the cluster forbids the pod: {error}")
        case _:
            return None


def _about(pod: Pod, events: Sequence[Event]) -> list[Event]:
    """The pod's own events, the newest first."""
    own = [event for event in events if event.involved_object.uid == pod.metadata.uid]
    return sorted(own, key=lambda event: event.at or datetime.min.replace(tzinfo=UTC), reverse=True)


def _end_of_pod(pod: Pod) -> Reason | None:
    """What ended the pod as a whole, whatever its containers did."""
    disruption = pod.condition("DisruptionTarget")
    cause = _ENDS.get(pod.status.reason)
    if cause is None and pod.status.reason.startswith("OutOf"):
        cause = Cause.NODE_REFUSED  # OutOfcpu, OutOfmemory: another pod was quicker
    words = pod.status.message
    if disruption is not None and disruption.status == "True":
        # A pod whose node was shut down says so itself; the condition only says that the kubelet ended it.
        cause = cause or _DISRUPTIONS.get(disruption.reason)
        words = words or disruption.message
    if cause is None:
        return None
    where = f" (node {pod.spec.node_name})" if pod.spec.node_name else ""
    return Reason(cause, _line(f"{_ENDED[cause]}{where}", words))


def _of_containers(pod: Pod, last_words: str) -> Reason | None:
    """The first container that has not what it needs or has ended badly, in the order in which they are started."""
    asked = {container.name: container for container in (*pod.spec.init_containers, *pod.spec.containers)}
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        container = asked.get(status.name, Container(name=status.name, image=status.image))
        if status.state.waiting is not None and (
            found := _of_waiting(status, status.state.waiting, container, last_words)
        ):
            return found
        ended = status.state.terminated
        if ended is not None and (ended.exit_code or ended.signal):
            return _of_ended(ended, container, last_words)
    return None


def _of_waiting(status: ContainerStatus, waiting: Waiting, container: Container, last_words: str) -> Reason | None:
    named = f"container {container.name!r}"
    before = status.last_state.terminated
    if waiting.reason in _IMAGE:
        return Reason(
            Cause.IMAGE,
            _line(f"the image {container.image!r} of {named} can't be had", waiting.message),
            container.name,
        )
    if waiting.reason in _CONFIGURATION:
        return Reason(Cause.CONFIGURATION, _line(f"{named} can't be made", waiting.message), container.name)
    if waiting.reason != "CrashLoopBackOff":
        return None
    if before is None:
        return Reason(Cause.CRASH_LOOP, _line(f"{named} ends again and again", waiting.message), container.name)
    ended = _of_ended(before, container, last_words)
    if ended.cause is not Cause.FAILED:
        return ended
    text = f"{ended.text} (it ends again and again, {status.restart_count} times up to now)"
    return Reason(Cause.CRASH_LOOP, text, container.name, before.exit_code)


def _of_ended(ended: Terminated, container: Container, last_words: str) -> Reason:
    named = f"container {container.name!r}"
    words = ended.message or last_words
    if ended.reason == "OOMKilled":
        limit = container.resources.limits.get("memory")
        bound = f"its limit of {limit} memory" if limit else "the memory that its node has"
        text = f"{named} was killed because it wanted more than {bound}; ask for more memory"
        return Reason(Cause.OUT_OF_MEMORY, text, container.name, ended.exit_code)
    if ended.reason in _NOT_STARTED:
        text = _line(f"the command of {named} can't be started", words)
        return Reason(Cause.CONFIGURATION, text, container.name, ended.exit_code)
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.exit_code}"
    return Reason(Cause.FAILED, _line(f"{named} ended with {how}", words), container.name, ended.exit_code)


def _of_scheduling(pod: Pod, remarks: Sequence[Event]) -> Reason | None:
    """The scheduler's words: on the pod, or in an event where it could not write them there yet."""
    if pod.spec.node_name:
        return None
    scheduled = pod.condition("PodScheduled") or PodCondition()
    if scheduled.status == "False" and scheduled.reason in ("Unschedulable", "SchedulerError", "SchedulingGated"):
        return Reason(Cause.UNSCHEDULABLE, _line("no node can take the pod", scheduled.message or scheduled.reason))
    for event in remarks:
        if event.reason == "FailedScheduling":
            return Reason(Cause.UNSCHEDULABLE, _line("no node can take the pod", event.message))
    return None


def _of_volumes(pod: Pod, remarks: Sequence[Event]) -> Reason | None:
    """A pod whose volumes can't be mounted only says that it is being created; the events know more."""
    if pod.status.phase not in ("", "Pending"):
        return None
    for event in remarks:
        if event.reason in _VOLUME:
            return Reason(Cause.VOLUME, _line("a volume of the pod can't be mounted", event.message))
        if event.reason == "FailedCreatePodSandBox":
            return Reason(Cause.CONFIGURATION, _line("the node can't set up the pod", event.message))
    return None


def _of_failure(pod: Pod) -> Reason | None:
    if pod.status.phase != "Failed":
        return None
    return Reason(Cause.FAILED, _line("the pod failed", pod.status.message or pod.status.reason))


def _line(what: str, words: str) -> str:
    """One line; of long words the beginning and the end, for the cause of an error is often said last."""
    said = one_line(words)
    if len(said) > WORDS:
        said = f"{said[: WORDS // 2]} ... {said[-WORDS // 2 :]}"
    return f"{what}: {said}" if said else what
