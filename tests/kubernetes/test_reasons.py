"""Whatever keeps a pod from running is said in one line that names what to look at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cluster_agent.runtimes.kubernetes.api.errors import AdmissionDenied, NotFound, QuotaExceeded
from cluster_agent.runtimes.kubernetes.api.objects.event import Event
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import WORDS, Cause, Reason, reason_of, reason_of_refusal

SPEC = {
    "nodeName": "n1",
    "containers": [{"name": "worker", "image": "nope:1", "resources": {"limits": {"memory": "512Mi"}}}],
}


def pod(spec: dict[str, Any] | None = None, **status: Any) -> Pod:
    return msgspec.convert(
        {"metadata": {"name": "w1", "uid": "u1"}, "spec": SPEC | (spec or {}), "status": status}, Pod
    )


def container(state: dict[str, Any], last: dict[str, Any] | None = None, restarts: int = 0) -> dict[str, Any]:
    status = {"name": "worker", "image": "nope:1", "state": state, "lastState": last or {}, "restartCount": restarts}
    return {"phase": "Pending", "containerStatuses": [status]}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, **more)


def ended(exit_code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}


def event(reason: str, message: str, uid: str = "u1", at: str = "2030-01-01T00:00:00Z") -> Event:
    about = {"kind": "Pod", "name": "w1", "uid": uid}
    return msgspec.convert(
        {"involvedObject": about, "reason": reason, "message": message, "lastTimestamp": at}, Event, strict=False
    )


UNSCHEDULED = {"nodeName": ""}
NO_CPU = (
    "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found."
)
PULL = 'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nope:1": not found'
PRESSURE = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi."


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (
            pod(**waiting("ErrImagePull", PULL)),
            Reason(Cause.IMAGE, f"the image 'nope:1' of container 'worker' can't be had: {PULL}", "worker"),
        ),
        (
            pod(**waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"')),
            Reason(
                Cause.IMAGE,
                "the image 'nope:1' of container 'worker' can't be had: Back-off pulling image \"nope:1\"",
                "worker",
            ),
        ),
        (
            pod(**waiting("InvalidImageName", "couldn't parse image name")),
            Reason(
                Cause.IMAGE,
                "the image 'nope:1' of container 'worker' can't be had: couldn't parse image name",
                "worker",
            ),
        ),
        (
            pod(**waiting("CreateContainerConfigError", 'secret "db" not found')),
            Reason(Cause.CONFIGURATION, "container 'worker' can't be made: secret \"db\" not found", "worker"),
        ),
        (
            pod(**container(ended(128, "StartError", 'exec: "run-me": executable file not found in $PATH'))),
            Reason(
                Cause.CONFIGURATION,
                "the command of container 'worker' can't be started: "
                'exec: "run-me": executable file not found in $PATH',
                "worker",
                128,
            ),
        ),
        (
            pod(**waiting("CrashLoopBackOff", "back-off 20s", last=ended(3, message="no such table"), restarts=4)),
            Reason(
                Cause.CRASH_LOOP,
                "container 'worker' ended with exit code 3: no such table (it ends again and again, 4 times up to now)",
                "worker",
                3,
            ),
        ),
        (
            pod(**waiting("CrashLoopBackOff", "back-off 20s", last=ended(137, "OOMKilled"), restarts=4)),
            Reason(
                Cause.OUT_OF_MEMORY,
                "container 'worker' was killed because it wanted more than its limit of 512Mi memory; "
                "ask for more memory",
                "worker",
                137,
            ),
        ),
        (
            pod(**(container(ended(137, "OOMKilled")) | {"phase": "Failed"})),
            Reason(
                Cause.OUT_OF_MEMORY,
                "container 'worker' was killed because it wanted more than its limit of 512Mi memory; "
                "ask for more memory",
                "worker",
                137,
            ),
        ),
        (
            pod(**(container(ended(1, message="Traceback\n  line")) | {"phase": "Failed"})),
            Reason(Cause.FAILED, "container 'worker' ended with exit code 1: Traceback line", "worker", 1),
        ),
        (
            pod(
                UNSCHEDULED,
                phase="Pending",
                conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_CPU}],
            ),
            Reason(Cause.UNSCHEDULABLE, f"no node can take the pod: {NO_CPU}"),
        ),
        (
            pod(phase="Failed", reason="Evicted", message=PRESSURE),
            Reason(Cause.EVICTED, f"the pod was evicted (node n1): {PRESSURE}"),
        ),
        (
            pod(
                phase="Running",
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "DeletionByTaintManager",
                        "message": "Taint manager: deleting due to NoExecute taint",
                    }
                ],
            ),
            Reason(
                Cause.NODE_LOST,
                "the pod's node was lost or shut down (node n1): Taint manager: deleting due to NoExecute taint",
            ),
        ),
        (
            pod(
                phase="Failed",
                reason="Terminated",
                message="Pod was terminated in response to imminent node shutdown.",
                conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
            ),
            Reason(
                Cause.NODE_LOST,
                "the pod's node was lost or shut down (node n1): "
                "Pod was terminated in response to imminent node shutdown.",
            ),
        ),
        (
            pod(
                phase="Running",
                conditions=[
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    }
                ],
            ),
            Reason(
                Cause.PREEMPTED,
                "the pod gave way to one of higher priority (node n1): "
                "default-scheduler: preempting to accommodate a higher priority pod",
            ),
        ),
        (
            pod(phase="Failed", reason="OutOfcpu", message="Pod was rejected: Node didn't have enough resource: cpu"),
            Reason(
                Cause.NODE_REFUSED,
                "the node refused the pod (node n1): Pod was rejected: Node didn't have enough resource: cpu",
            ),
        ),
        (
            pod(
                phase="Failed", reason="DeadlineExceeded", message="Pod was active on the node longer than the deadline"
            ),
            Reason(
                Cause.DEADLINE,
                "the pod ran for longer than it may (node n1): Pod was active on the node longer than the deadline",
            ),
        ),
        (pod(phase="Failed", message="it is so"), Reason(Cause.FAILED, "the pod failed: it is so")),
        (pod(**container({"running": {}})), None),
        (pod(**waiting("ContainerCreating")), None),
        (pod(phase="Succeeded", **{k: v for k, v in container(ended(0, "Completed")).items() if k != "phase"}), None),
        (pod(), None),
    ],
)
def test_a_status_comes_down_to_one_line(subject: Pod, reason: Reason | None) -> None:
    assert reason_of(subject) == reason


def test_an_init_container_is_named_where_it_fails_first() -> None:
    status = {"name": "prepare", "state": ended(2, message="no space"), "restartCount": 0}
    found = reason_of(pod(phase="Failed", initContainerStatuses=[status]))
    assert found == Reason(Cause.FAILED, "container 'prepare' ended with exit code 2: no space", "prepare", 2)


def test_events_of_the_pod_tell_what_its_status_does_not_and_the_newest_counts() -> None:
    creating = pod(**waiting("ContainerCreating"))
    events = [
        event("FailedMount", "old words", at="2030-01-01T00:00:00Z"),
        event(
            "FailedMount",
            'MountVolume.SetUp failed for volume "data": configmap "x" not found',
            at="2030-01-02T00:00:00Z",
        ),
        event("FailedMount", "of another pod", uid="u2", at="2030-01-03T00:00:00Z"),
    ]
    assert reason_of(creating, events) == Reason(
        Cause.VOLUME,
        'a volume of the pod can\'t be mounted: MountVolume.SetUp failed for volume "data": configmap "x" not found',
    )
    assert reason_of(creating, [event("FailedMount", "x", uid="u2")]) is None
    assert reason_of(pod(UNSCHEDULED, phase="Pending"), [event("FailedScheduling", NO_CPU)]) == Reason(
        Cause.UNSCHEDULABLE, f"no node can take the pod: {NO_CPU}"
    )


def test_a_pod_that_got_over_it_has_no_reason() -> None:
    running = pod(**(container({"running": {}}) | {"phase": "Running"}))
    assert reason_of(running, [event("FailedMount", "x"), event("FailedScheduling", NO_CPU)]) is None


def test_the_containers_last_words_are_taken_where_it_left_no_message() -> None:
    failed = pod(**(container(ended(1)) | {"phase": "Failed"}))
    found = reason_of(failed, last_words="ValueError: bad row\n")
    assert found is not None
    assert found.text == "container 'worker' ended with exit code 1: ValueError: bad row"


def test_long_words_keep_their_beginning_and_their_end() -> None:
    found = reason_of(pod(**waiting("ErrImagePull", "start " + "x" * 5000 + " end")))
    assert found is not None
    assert len(found.text) < WORDS + 100
    assert "start" in found.text
    assert found.text.endswith("end")


def test_what_a_creation_was_refused_for() -> None:
    full = reason_of_refusal(QuotaExceeded("exceeded quota: q"))
    denied = reason_of_refusal(AdmissionDenied("violates PodSecurity"))
    assert full == Reason(Cause.QUOTA, "the namespace's quota has no room: exceeded quota: q")
    assert denied == Reason(Cause.ADMISSION, "a policy of the cluster forbids the pod: violates PodSecurity")
    assert reason_of_refusal(NotFound("no such namespace")) is None
