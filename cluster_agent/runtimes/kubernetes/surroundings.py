"""What a daemon in a pod finds out about where it is: our own image, whose pods they are, what nodes they tolerate.

So nothing has to be written twice in a manifest. Each can be said all the same, for a daemon outside of a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster_agent.runtimes.base import Room
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.configuration import Source
from cluster_agent.runtimes.kubernetes.api.errors import ApiError
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.manifest import Settings
from cluster_agent.runtimes.kubernetes.room import NodeRoom
from cluster_agent.runtimes.kubernetes.runtime import KubernetesRuntime
from cluster_agent.runtimes.process.keep import Keeps

_PATH_BYTES: Final = 103  # that a socket's path may have, as the starter makes it
_OF_EVERY_DAEMON: Final = "node.kubernetes.io/"  # tolerations that Kubernetes gives to those of DaemonSets alone


@dataclass(frozen=True)
class KubernetesConfig:
    """What is said. `pod` is our own, in `namespace`; without it both images have to be said."""

    context: str = ""
    kubeconfig: str = ""
    namespace: str = ""
    pod: str = ""
    starter_image: str = ""
    worker_image: str = ""
    cpu_requests: float = 1.0
    allow_root: bool = False


async def make_runtime(
    config: KubernetesConfig, cluster: str, node: str, state: Path, memory: Path | None, keeps: Keeps, told: Room
) -> KubernetesRuntime:
    """The runtime of a node's daemon, not opened yet. `told`: see NodeRoom. StartError says what is missing."""
    try:
        client = await Client.connect(Source(config.context, config.kubeconfig))
    except ApiError as error:
        raise StartError(str(error)) from None
    try:
        namespace = config.namespace or client.namespace
        own = await client.get(PODS, config.pod, namespace) if config.pod else None
        settings = settings_of(config, cluster, node, namespace, state.absolute(), memory, own)
    except ApiError as error:
        await client.close()
        raise StartError(f"our own pod can't be read, from which the workers' pods are made: {error}") from None
    except BaseException:
        await client.close()
        raise
    room = NodeRoom(client, node, told, own, settings.tolerations, config.cpu_requests)
    return KubernetesRuntime(client, settings, keeps, room)


def settings_of(
    config: KubernetesConfig,
    cluster: str,
    node: str,
    namespace: str,
    state: Path,
    memory: Path | None,
    own: Pod | None,
) -> Settings:
    """What all pods of the daemon have in common. StartError."""
    image = config.starter_image or (own.spec.containers[0].image if own is not None else "")
    if not image:
        raise StartError("workers' pods need our own image: say --pod, the pod that we are, or --starter-image")
    settings = Settings(
        cluster=cluster,
        node=node,
        namespace=namespace,
        state=state,
        starter_image=image,
        worker_image=config.worker_image or image,
        user=os.getuid(),
        group=os.getgid(),
        memory=memory / "workers" if memory is not None else None,
        tolerations=_tolerations(own) if own is not None else (),
        cpu_requests=config.cpu_requests,
        allow_root=config.allow_root,
        pull_secrets=tuple(each["name"] for each in own.spec.image_pull_secrets) if own is not None else (),
        owner=_owner(own) if own is not None else None,
    )
    length = len(os.fsencode(settings.roots.place("0" * 12).socket))
    if length > _PATH_BYTES:
        longest = _PATH_BYTES - length + len(os.fsencode(state))
        raise StartError(f"--directory {state}: sockets of workers lie in it, so it may have {longest} bytes at most")
    return settings


def _tolerations(own: Pod) -> tuple[Mapping[str, Any], ...]:
    """Where the daemon may be, its pods may be too; but not on a node that is cordoned or in need."""
    return tuple(each for each in own.spec.tolerations if not each.get("key", "").startswith(_OF_EVERY_DAEMON))


def _owner(own: Pod) -> Mapping[str, Any] | None:
    """Who keeps the daemon running: with its end the pods' use ends, and not with that of a daemon."""
    for owner in own.metadata.owner_references:
        if owner.controller:
            return {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
    return None
