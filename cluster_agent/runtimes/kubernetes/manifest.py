"""A worker's pod as it is asked for: the user's image, our starter in it, and directories of the node. Pure.

Of the node it has a directory of its own (see `place`) and, read only, that of its step's bundle.

A `Template` is all of a pod but its name and directory. Two pods of equal templates can stand for each other, also
when a daemon has made one and its successor would make the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cluster_agent.runtimes.base import Secret, WorkerSpec
from cluster_agent.runtimes.directories.worker import PARTS
from cluster_agent.runtimes.kubernetes.api.quantity import write
from cluster_agent.runtimes.kubernetes.api.quota import Asking, PodAsking, amounts
from cluster_agent.runtimes.kubernetes.core import TEMPLATE_LABEL
from cluster_agent.runtimes.kubernetes.place import HOME, Roots
from wire.digests import bytes_digest

OWNER_LABEL: Final = "bdw-fed.io/owner"
WORKER: Final = "worker"
STARTER_IN_IMAGE: Final = "/opt/bdw-fed/starter/starter"  # in our own; the worker lies beside it
_INSTALLED: Final = "/.bdw-fed"
SECRETS: Final = PurePosixPath("/.bdw-fed-secrets")
_BUNDLE: Final = "bdw-fed.io/bundle"
_OWN: Final = "own"  # the volume with the pod's own directory
# What a program that watches a directory is told, whatever image it is in. All but the code is the pod's own.
BOX: Final[Mapping[str, str]] = {part: f"/{part}" for part in (*PARTS, "code")}
_OF_ROOT: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
_GRACE_SECONDS: Final = 10
_TASKS_END_SECONDS: Final = 5
# What a container may take beyond the memory of its step: the starter, and the interpreter with its modules.
_BESIDE_PROGRAM: Final = 64 << 20
_BESIDE_FUNCTION: Final = 512 << 20


@dataclass(frozen=True)
class Settings:
    """What the pods of one daemon have in common. They run as its own user, so that each can read the other's files."""

    cluster: str
    node: str
    namespace: str
    state: Path
    starter_image: str  # our own, of which the init container is
    worker_image: str  # of steps that name none
    user: int
    group: int
    memory: Path | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    allow_root: bool = False  # steps may ask to be root in their pods
    cpu_requests: float = 1.0  # the part of a step's processors that its pod asks for
    owner: Mapping[str, Any] | None = None  # with whose deletion Kubernetes deletes the pods

    @property
    def owner_label(self) -> str:
        """By which a daemon knows its pods, whatever the length of a node's name."""
        return bytes_digest(f"{self.cluster}/{self.node}".encode())[:8].hex()

    @property
    def roots(self) -> Roots:
        """Where they have their directories."""
        return Roots(self.state, self.memory)


@dataclass(frozen=True)
class Template:
    """`made` is what is asked for, `key` names it."""

    settings: Settings
    spec: WorkerSpec
    made: Mapping[str, Any] = field(repr=False)
    key: str

    def name(self, identity: str) -> str:
        """The pod that has this identity: a few hexadecimal digits that no other has."""
        step = re.sub(r"[^a-z0-9]+", "-", self.spec.definition.lower()).strip("-")
        return f"{step[:40].strip('-') or 'step'}-{identity}"

    def manifest(self, identity: str) -> dict[str, Any]:
        """The pod that has this identity."""
        place = self.settings.roots.place(identity)
        made: dict[str, Any] = json.loads(json.dumps(self.made))
        made["metadata"]["name"] = self.name(identity)
        own = [(_OWN, place.root), *([("memory", place.memory)] if place.memory else [])]
        worker = made["spec"]["containers"][0]
        worker["command"].append(str(place.socket))
        for name, path in own:
            made["spec"]["volumes"].append(_of_node(name, path))
            worker["volumeMounts"].append({"name": name, "mountPath": str(path)})
        return made

    @property
    def asking(self) -> PodAsking:
        """What it asks of quotas."""

        def asked(container: Mapping[str, Any]) -> Asking:
            told = container["resources"]
            return Asking(container["name"], amounts(told.get("requests", {})), amounts(told.get("limits", {})))

        spec = self.made["spec"]
        return PodAsking(tuple(map(asked, spec["containers"])), tuple(map(asked, spec["initContainers"])))


def identity_of(name: str) -> str:
    """The identity in a pod's name."""
    return name.rpartition("-")[2]


def bundle_of(annotations: Mapping[str, str]) -> Path | None:
    """The bundle that a pod with these annotations has mounted."""
    found = annotations.get(_BUNDLE)
    return Path(found) if found else None


def memory_limit(spec: WorkerSpec) -> int:
    """What its container may take; 0 = not limited. More than a task may: it fails before its pod does."""
    if not spec.memory:
        return 0
    return spec.memory + (_BESIDE_FUNCTION if spec.function else _BESIDE_PROGRAM)


def template(settings: Settings, spec: WorkerSpec) -> Template:
    """The pod for a step version on this node."""
    metadata: dict[str, Any] = {
        "labels": {
            "app.kubernetes.io/name": "bdw-fed-worker",
            "app.kubernetes.io/part-of": "bdw-fed",
            OWNER_LABEL: settings.owner_label,
            "bdw-fed.io/cluster": _label(settings.cluster),
            "bdw-fed.io/node": _label(settings.node),
            "bdw-fed.io/step": _label(spec.definition),
        },
        "annotations": {"bdw-fed.io/definition": spec.definition},
    }
    if spec.bundle is not None:
        metadata["annotations"][_BUNDLE] = str(spec.bundle)
    if settings.owner is not None:
        metadata["ownerReferences"] = [dict(settings.owner)]
    made = {"metadata": metadata, "spec": _pod(settings, spec)}
    key = bytes_digest(json.dumps(made, sort_keys=True).encode())[:8].hex()
    metadata["labels"][TEMPLATE_LABEL] = key
    return Template(settings, spec, made, key)


def _pod(settings: Settings, spec: WorkerSpec) -> dict[str, Any]:
    volumes, mounts = _mounted(spec)
    security: dict[str, Any] = {
        "runAsUser": settings.user,
        "runAsGroup": settings.group,
        "runAsNonRoot": settings.user != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if spec.secrets:  # else nobody but root could read them
        security["fsGroup"] = settings.group
    made: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _only(settings.node)}},
        "securityContext": security,
        "initContainers": [_installer(settings, spec)],
        "containers": [_worker(settings, spec, mounts)],
        "volumes": volumes,
    }
    if settings.tolerations:
        made["tolerations"] = [dict(each) for each in settings.tolerations]
    if settings.pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return made


def _mounted(spec: WorkerSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes that pods of a step share or have alike, and where the worker finds them."""
    volumes: list[dict[str, Any]] = [{"name": "starter", "emptyDir": {"sizeLimit": "32Mi"}}]
    mounts: list[dict[str, Any]] = [{"name": "starter", "mountPath": _INSTALLED, "readOnly": True}]
    if spec.bundle is not None:
        volumes.append(_of_node("bundle", spec.bundle))
        mounts.append({"name": "bundle", "mountPath": str(spec.bundle), "readOnly": True})
    if spec.watching is not None:
        mounts += [{"name": _OWN, "mountPath": BOX[part], "subPath": f"{HOME}/{part}"} for part in PARTS]
        if spec.bundle is not None:
            mounts.append({"name": "bundle", "mountPath": BOX["code"], "readOnly": True})
    if spec.secrets:
        volumes.append({"name": "secrets", "projected": {"defaultMode": 0o400, "sources": _secrets(spec)}})
        mounts.append({"name": "secrets", "mountPath": str(SECRETS), "readOnly": True})
    return volumes, mounts


def _installer(settings: Settings, spec: WorkerSpec) -> dict[str, Any]:
    """It puts our starter where the worker's container finds it."""
    return {
        "name": "starter",
        "image": settings.starter_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [STARTER_IN_IMAGE, "install", _INSTALLED],
        "resources": _resources(spec, settings.cpu_requests),  # free: a pod asks for the larger of both
        "securityContext": {**_confined(), "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "starter", "mountPath": _INSTALLED}],
    }


def _worker(settings: Settings, spec: WorkerSpec, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """The step's own image, in which the starter starts what it is told."""
    return {
        "name": WORKER,
        "image": spec.image or settings.worker_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{_INSTALLED}/starter", "-grace", f"{_TASKS_END_SECONDS}s", *_as_root(settings, spec)],
        "resources": _resources(spec, settings.cpu_requests),
        "securityContext": _root() if spec.user else _confined(),
        "volumeMounts": mounts,
    }


def _secrets(spec: WorkerSpec) -> list[dict[str, Any]]:
    """Each of the step's secrets as a file under the name that the step gives it."""
    return [
        {"secret": {"name": secret_name(secret), "items": [{"key": secret.key, "path": name}]}}
        for name, secret in spec.secrets
    ]


def secret_name(secret: Secret) -> str:
    """The Secret of Kubernetes. Only such ones can be named: our own certificates lie in the same namespace."""
    return f"bdw-fed-secret-{secret.namespace}-{secret.name}"


def _resources(spec: WorkerSpec, cpu_requests: float) -> dict[str, Any]:
    """The scheduler counts what the step asks for, or the part of its processors that the operator lets it count.

    Processors are no limit: what others leave may be used.
    """
    requests, limits = {}, {}
    if spec.cpus:
        requests["cpu"] = write(Fraction(max(1, round(spec.cpus * cpu_requests * 1000)), 1000))
    if spec.memory:
        requests["memory"] = write(Fraction(spec.memory), binary=True)
        limits["memory"] = write(Fraction(memory_limit(spec)), binary=True)
    return {"requests": requests, "limits": limits}


def _confined() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _root() -> dict[str, Any]:
    """Root within the image, with what installing and handing over needs, and nothing of the node's."""
    return {
        "runAsUser": 0,
        "runAsNonRoot": False,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": list(_OF_ROOT)},
    }


def _as_root(settings: Settings, spec: WorkerSpec) -> list[str]:
    """How a starter that is root serves a daemon that is not: it opens to it, and gives it what programs make."""
    if not spec.user:
        return []
    whose = f"{settings.user}:{settings.group}"
    return ["-peers", str(settings.user), "-group", str(settings.group), "-give", whose]


def _only(node: str) -> dict[str, Any]:
    """This very node; the scheduler counts what the pod asks for, which a pod with a node's name would get round."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {"nodeSelectorTerms": [{"matchFields": [field]}]}


def _of_node(name: str, path: Path) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": str(path), "type": "Directory"}}


def _label(text: str) -> str:
    """As near to the text as a label's value can be."""
    return re.sub(r"[^A-Za-z0-9]+$|^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:63])
