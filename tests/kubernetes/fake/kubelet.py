"""The rest of the cluster, by hand: scheduler, kubelet, node controller. To a pod happens what a test says.

The statuses are those that a real cluster writes in such a case.
"""

from __future__ import annotations

import itertools
from typing import Any

from tests.kubernetes.fake import admission
from tests.kubernetes.fake.store import Key, Manifest, Store, now


class Kubelet:
    """Drives pods by name, in the namespace `team`."""

    def __init__(self, store: Store, namespace: str = "team") -> None:
        self._store = store
        self._namespace = namespace
        self._numbers = itertools.count(1)
        self.logs: dict[tuple[str, str, bool], str] = {}  # pod, container, previous

    def key(self, pod: str) -> Key:
        return Key("pods", self._namespace, pod)

    def node(self, name: str, *, cpu: str = "4", memory: str = "8Gi", ready: bool = True) -> None:
        """Add a node, or say how it is."""
        conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
        status = {"capacity": {"cpu": cpu, "memory": memory}, "allocatable": {"cpu": cpu, "memory": memory}}
        manifest: Manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}}
        manifest["status"] = {**status, "conditions": conditions}
        key = Key("nodes", "", name)
        if key in self._store.objects:
            self._store.change(key, lambda node: node["status"].update(manifest["status"]))
        else:
            self._store.create(key, manifest)

    def cordon(self, name: str, cordoned: bool = True) -> None:
        """As `kubectl cordon`, and `uncordon`."""
        self._store.change(Key("nodes", "", name), lambda node: node["spec"].update(unschedulable=cordoned))

    def taint(self, name: str, *taints: tuple[str, str]) -> None:
        """A node has these taints, by key and effect, and no others."""
        wanted = [{"key": key, "effect": effect} for key, effect in taints]
        self._store.change(Key("nodes", "", name), lambda node: node["spec"].update(taints=wanted))

    def schedule(self, pod: str, node: str = "n1") -> None:
        """The scheduler has found a node."""

        def change(manifest: Manifest) -> None:
            manifest["spec"]["nodeName"] = node
            _condition(manifest, "PodScheduled", "True")

        self._store.change(self.key(pod), change)

    def unschedulable(self, pod: str, words: str) -> None:
        """The scheduler has found none."""
        self._store.change(
            self.key(pod), lambda manifest: _condition(manifest, "PodScheduled", "False", "Unschedulable", words)
        )
        self.event(pod, "FailedScheduling", words, reporter="default-scheduler")

    def run(self, pod: str, node: str = "n1", *, ip: str = "10.244.0.7") -> None:
        """The pod runs, all its containers ready."""
        self.schedule(pod, node)

        def change(manifest: Manifest) -> None:
            status = manifest["status"]
            status |= {"phase": "Running", "podIP": ip, "hostIP": "172.18.0.2", "startTime": now()}
            _condition(manifest, "Ready", "True")
            _containers(manifest, {"running": {"startedAt": now()}}, ready=True)

        self._store.change(self.key(pod), change)

    def waiting(self, pod: str, reason: str, message: str = "", *, restarts: int = 0, last: Any = None) -> None:
        """The containers wait for something; `last` is how they ended before."""

        def change(manifest: Manifest) -> None:
            state = {"waiting": {"reason": reason, "message": message}}
            _containers(manifest, state, restarts=restarts, last={"terminated": last} if last else {})

        self._store.change(self.key(pod), change)

    def fail(self, pod: str, reason: str = "Error", *, exit_code: int = 1, message: str = "") -> None:
        """The containers have ended so, and the pod with them."""
        self._end(pod, "Failed", {"exitCode": exit_code, "reason": reason, "message": message})

    def succeed(self, pod: str) -> None:
        """The containers have ended well."""
        self._end(pod, "Succeeded", {"exitCode": 0, "reason": "Completed"})

    def oom(self, pod: str) -> None:
        """The kernel has killed the containers."""
        self.fail(pod, "OOMKilled", exit_code=137)

    def evict(self, pod: str, words: str = "The node was low on resource: memory. ") -> None:
        """The node needed the room."""

        def change(manifest: Manifest) -> None:
            manifest["status"] |= {"phase": "Failed", "reason": "Evicted", "message": words}
            _condition(manifest, "DisruptionTarget", "True", "TerminationByKubelet", words)

        self.uncount(self.key(pod))
        self._store.change(self.key(pod), change)

    def vanish(self, node: str) -> None:
        """The node is gone for good: its pods are marked and deleted by the node controller, then the node."""
        for pod in list(self._store.within("pods", self._namespace)):
            if pod["spec"].get("nodeName") == node:
                key = self.key(pod["metadata"]["name"])
                self._store.change(key, _disrupted)
                self.gone(key.name)
        if Key("nodes", "", node) in self._store.objects:
            self._store.delete(Key("nodes", "", node))

    def gone(self, pod: str) -> None:
        """The containers of a pod that is being deleted have ended: it is no more."""
        self.uncount(self.key(pod))
        self._store.delete(self.key(pod))

    def event(self, pod: str, reason: str, message: str, *, reporter: str = "kubelet", type: str = "Warning") -> None:
        """Somebody remarks something about a pod."""
        about = self._store.get(self.key(pod))["metadata"]
        name = f"{pod}.{next(self._numbers):x}"
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "namespace": self._namespace, "name": pod, "uid": about["uid"]},
            "reason": reason,
            "message": message,
            "type": type,
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "eventTime": None,
            "source": {"component": reporter},
        }
        self._store.create(Key("events", self._namespace, name), manifest)

    def _end(self, pod: str, phase: str, terminated: Manifest) -> None:
        def change(manifest: Manifest) -> None:
            manifest["status"]["phase"] = phase
            _condition(manifest, "Ready", "False", "PodFailed" if phase == "Failed" else "PodCompleted")
            _containers(manifest, {"terminated": {**terminated, "startedAt": now(), "finishedAt": now()}})

        self.uncount(self.key(pod))
        self._store.change(self.key(pod), change)

    def uncount(self, key: Key) -> None:
        """A pod that has ended doesn't count against quotas. Called before its phase says so."""
        manifest = self._store.objects[key]
        if manifest["status"]["phase"] not in ("Failed", "Succeeded"):
            admission.release(self._store, manifest)


def _disrupted(manifest: Manifest) -> None:
    words = "Taint manager: deleting due to NoExecute taint"
    _condition(manifest, "DisruptionTarget", "True", "DeletionByTaintManager", words)


def _condition(manifest: Manifest, type: str, status: str, reason: str = "", message: str = "") -> None:
    conditions = manifest["status"].setdefault("conditions", [])
    conditions[:] = [condition for condition in conditions if condition["type"] != type]
    conditions.append(
        {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}
    )


def _containers(
    manifest: Manifest, state: Manifest, *, ready: bool = False, restarts: int = 0, last: Any = None
) -> None:
    manifest["status"]["containerStatuses"] = [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": ready,
            "restartCount": restarts,
            "state": state,
            "lastState": last or {},
        }
        for container in manifest["spec"]["containers"]
    ]
