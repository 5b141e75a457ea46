"""Our services on the clusters: overlays made and applied, and waiting until their pods are ready."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bdw_fed.kind.environment import context_of
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import call, run
from bdw_fed.kind.state import State
from bdw_fed.manifests.overlays import NAMESPACE

_READY_SECONDS = 240
_API_SECONDS = 120.0
_ASK_AGAIN = 0.5
_WORKER = "bdw-fed-worker"
HUB = ("statefulset/bdw-fed-etcd", "deployment/bdw-fed-hub")
RELAY = ("deployment/bdw-fed-relay",)
AGENT = ("deployment/bdw-fed-agent", "daemonset/bdw-fed-node")


def kubectl(state: State, cluster: str, *words: str) -> str:
    """What `kubectl WORDS` prints about a cluster of ours."""
    return run("kubectl", "--kubeconfig", str(state.kubeconfig), "--context", context_of(cluster), *words)


def apply(state: State, cluster: str, overlay: Path) -> None:
    """Apply an overlay; what is as it should be stays untouched."""
    kubectl(state, cluster, "apply", "-k", str(overlay))


def await_api(state: State, cluster: str) -> None:
    """Until the API server of a cluster answers that it is ready: its nodes have just been started. KindError."""
    deadline = time.monotonic() + _API_SECONDS
    while True:
        try:
            kubectl(state, cluster, "get", "--raw", "/readyz")
            return
        except KindError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)


def await_ready(state: State, cluster: str, workloads: tuple[str, ...]) -> None:
    """Until all pods of these workloads are of the newest kind and ready. KindError says what keeps them."""
    for workload in workloads:
        words = ["rollout", "status", workload, "-n", NAMESPACE, f"--timeout={_READY_SECONDS}s"]
        base = ["kubectl", "--kubeconfig", str(state.kubeconfig), "--context", context_of(cluster)]
        done = call([*base, *words], check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise KindError(f"{workload} on {cluster} is not ready: {said}\n{_why(state, cluster)}")


def pods(state: State, cluster: str) -> list[dict[str, Any]]:
    """Our pods on a cluster: name, node, whether it is a worker (which come and go), ready, restarts, why it waits."""
    found = json.loads(kubectl(state, cluster, "get", "pods", "-n", NAMESPACE, "-o", "json"))
    return [_pod(item) for item in found["items"]]


def _pod(item: dict[str, Any]) -> dict[str, Any]:
    status = item.get("status", {})
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    waits = [state["waiting"] for state in (one.get("state", {}) for one in containers) if "waiting" in state]
    return {
        "name": item["metadata"]["name"],
        "node": item["spec"].get("nodeName", ""),
        "worker": item["metadata"].get("labels", {}).get("app.kubernetes.io/name") == _WORKER,
        "ready": conditions.get("Ready") == "True",
        "restarts": sum(one.get("restartCount", 0) for one in containers),
        "waits_for": "; ".join(filter(None, (_words(wait) for wait in waits))),
    }


def _words(wait: dict[str, str]) -> str:
    reason = wait.get("reason", "")
    return "" if reason in ("PodInitializing", "ContainerCreating") else f"{reason} {wait.get('message', '')}".strip()


def _why(state: State, cluster: str) -> str:
    """What a person would look at next: pods that are not ready, and the end of what they said."""
    lines = []
    for pod in pods(state, cluster):
        if not (pod["ready"] or pod["worker"]):
            base = ("kubectl", "--kubeconfig", str(state.kubeconfig), "--context", context_of(cluster))
            words = (*base, "logs", "-n", NAMESPACE, pod["name"], "--all-containers", "--tail=15")
            said = call(words, check=False).stdout.decode(errors="replace").strip()
            lines.append(f"  {pod['name']}: {pod['waits_for'] or 'not ready'}\n{said}")
    return "\n".join(lines)
