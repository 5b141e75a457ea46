"""What a namespace may use: the sum of its pods (ResourceQuota) and each one of them (LimitRange)."""

from __future__ import annotations

import msgspec

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, Struct


class ScopeRequirement(Struct):
    """A property of the pods that a quota counts."""

    scope_name: str = ""
    operator: str = ""
    values: list[str] = []


class ScopeSelector(Struct):
    """All of these are required."""

    match_expressions: list[ScopeRequirement] = []


class ResourceQuotaSpec(Struct):
    """At most so much; with scopes it counts only the pods that have them all."""

    hard: dict[str, str] = {}
    scopes: list[str] = []
    scope_selector: ScopeSelector | None = None


class ResourceQuotaStatus(Struct):
    """What the quota controller has counted last."""

    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class ResourceQuota(Object):
    """A quota."""

    spec: ResourceQuotaSpec = msgspec.field(default_factory=ResourceQuotaSpec)
    status: ResourceQuotaStatus = msgspec.field(default_factory=ResourceQuotaStatus)


class LimitRangeItem(Struct):
    """What holds for each thing of `type`: Container, Pod or PersistentVolumeClaim."""

    type: str = ""
    min: dict[str, str] = {}
    max: dict[str, str] = {}
    default: dict[str, str] = {}
    default_request: dict[str, str] = {}
    max_limit_request_ratio: dict[str, str] = {}


class LimitRangeSpec(Struct):
    """All hold."""

    limits: list[LimitRangeItem] = []


class LimitRange(Object):
    """Limits and defaults of single pods and containers."""

    spec: LimitRangeSpec = msgspec.field(default_factory=LimitRangeSpec)
