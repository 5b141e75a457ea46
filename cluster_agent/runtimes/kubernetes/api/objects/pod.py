"""Pods: what they asked for and how they fare."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, Struct


class Resources(Struct):
    """What a container is given at least (`requests`) and at most (`limits`), as quantities."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Container(Struct):
    """A container as it was asked for."""

    name: str = ""
    image: str = ""
    resources: Resources = msgspec.field(default_factory=Resources)


class PodSpec(Struct):
    """What was asked for."""

    containers: list[Container] = []
    init_containers: list[Container] = []
    node_name: str = ""
    restart_policy: str = ""
    service_account_name: str = ""
    tolerations: list[dict[str, Any]] = []
    image_pull_secrets: list[dict[str, str]] = []


class Waiting(Struct):
    """Why a container has not started."""

    reason: str = ""
    message: str = ""


class Running(Struct):
    """Since when a container runs."""

    started_at: datetime | None = None


class Terminated(Struct):
    """How a container ended."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Struct):
    """Exactly one is set; none means that it waits."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Struct):
    """A container as it is."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(name="imageID", default="")
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)


class PodCondition(Struct):
    """One thing that is true of a pod, or not, and why."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class PodStatus(Struct):
    """How a pod fares."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    start_time: datetime | None = None
    qos_class: str = ""
    conditions: list[PodCondition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(Object):
    """A pod."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    def condition(self, type: str) -> PodCondition | None:
        """The condition of this type, if it is stated."""
        return next((condition for condition in self.status.conditions if condition.type == type), None)
