"""How many more pods of a kind a namespace takes, or why it takes none.
 The API server asks three questions of a pod, in this order, and so does this: what LimitRanges fill in where the pod
says nothing; whether each container and the pod as a whole keep to their minimum, maximum and ratio; whether each
ResourceQuota that counts the pod has room for what it asks. Pure and exact: quantities are Fractions. The answer is a
forecast: others may use what is left, and a quota's `used` is as old as it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, TypeAlias

from cluster_agent.runtimes.kubernetes.api.objects.limits import (
    LimitRange,
    LimitRangeItem,
    ResourceQuota,
    ScopeRequirement,
)
from cluster_agent.runtimes.kubernetes.api.quantity import parse, write

Amounts: TypeAlias = dict[str, Fraction]
_SHORT: Final = frozenset(["cpu", "memory", "ephemeral-storage"])
_MUST_BE_SAID: Final = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Asking:
    """What one container asks for."""

    name: str
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodAsking:
    """What a pod asks for, and what decides which quotas count it. Init containers run first, one by one."""

    containers: tuple[Asking, ...]
    init_containers: tuple[Asking, ...] = ()
    priority_class: str = ""
    deadline: bool = False  # activeDeadlineSeconds is set


@dataclass(frozen=True, slots=True)
class Room:
    """`count` more pods fit, None = any number. `because` says what bounds it, `field` by which field."""

    count: int | None
    because: str = ""
    field: str = ""


def amounts(quantities: dict[str, str]) -> Amounts:
    """Parsed."""
    return {name: parse(quantity) for name, quantity in quantities.items()}


def room(pod: PodAsking, quotas: Iterable[ResourceQuota], ranges: Sequence[LimitRange]) -> Room:
    """How many more such pods the namespace takes."""
    filled = defaulted(pod, ranges)
    if fault := _fault(filled, ranges):
        return fault
    least = Room(None)
    for quota in quotas:
        found = _left(filled, quota)
        if found.count is not None and (least.count is None or found.count < least.count):
            least = found
    return least


def defaulted(pod: PodAsking, ranges: Sequence[LimitRange]) -> PodAsking:
    """The pod with what the server fills in: a request from its limit, then what the LimitRanges say."""

    def fill(asking: Asking) -> Asking:
        limits = dict(asking.limits)
        requests = {**asking.limits, **asking.requests}
        for item in _items(ranges, "Container"):
            default, default_request = _defaults(item)
            limits = {**default, **limits}
            requests = {**default_request, **requests}
        return Asking(asking.name, requests, limits)

    return PodAsking(
        tuple(map(fill, pod.containers)), tuple(map(fill, pod.init_containers)), pod.priority_class, pod.deadline
    )


def _defaults(item: LimitRangeItem) -> tuple[Amounts, Amounts]:
    """Limits and requests. A limit that isn't said is the maximum; a request the limit's default, else the minimum."""
    default = {**amounts(item.max), **amounts(item.default)}
    return default, {**amounts(item.min), **default, **amounts(item.default_request)}


def _items(ranges: Sequence[LimitRange], type: str) -> Iterable[LimitRangeItem]:
    return (item for range in ranges for item in range.spec.limits if item.type == type)


def _fault(pod: PodAsking, ranges: Sequence[LimitRange]) -> Room | None:
    """The first thing about the pod that is not allowed, however empty the namespace is."""
    everybody = (*pod.init_containers, *pod.containers)
    for asking in everybody:
        for resource, request in asking.requests.items():
            if resource in asking.limits and request > asking.limits[resource]:
                said = (
                    f"container {asking.name!r} requests more {resource} ({_shown(resource, request)}) than its limit"
                )
                return Room(0, f"{said}, {_shown(resource, asking.limits[resource])}", f"requests.{resource}")
    total = Asking("", _total(pod, lambda asking: asking.requests), _total(pod, lambda asking: asking.limits))
    for range in ranges:
        for item in range.spec.limits:
            subjects = everybody if item.type == "Container" else (total,) if item.type == "Pod" else ()
            for asking in subjects:
                if found := _outside(asking, item, range.metadata.name):
                    return found
    return None


def _outside(asking: Asking, item: LimitRangeItem, name: str) -> Room | None:
    who = f"container {asking.name!r}" if asking.name else "the pod"

    def fault(resource: str, side: str, bound: str) -> Room:
        given = (asking.requests if side == "requests" else asking.limits).get(resource)
        has = f"{side} {_shown(resource, given)} {resource}" if given is not None else f"{side} no {resource}"
        return Room(0, f"{who} {has}, LimitRange {name!r} wants {bound}", f"{side}.{resource}")

    for resource, least in amounts(item.min).items():
        bound = f"at least {_shown(resource, least)}"
        if asking.requests.get(resource, Fraction(-1)) < least:
            return fault(resource, "requests", bound)
        if asking.limits.get(resource, least) < least:
            return fault(resource, "limits", bound)
    for resource, most in amounts(item.max).items():
        bound = f"at most {_shown(resource, most)}"
        if resource not in asking.limits or asking.limits[resource] > most:
            return fault(resource, "limits", bound)
        if asking.requests.get(resource, most) > most:
            return fault(resource, "requests", bound)
    for resource, ratio in amounts(item.max_limit_request_ratio).items():
        request, limit = asking.requests.get(resource), asking.limits.get(resource)
        bound = f"a limit of at most {write(ratio)} times the request"
        if not request:
            return fault(resource, "requests", bound)
        if limit is None or limit / request > ratio:
            return fault(resource, "limits", bound)
    return None


def _left(pod: PodAsking, quota: ResourceQuota) -> Room:
    """How many such pods fit into what is left of this quota."""
    if not _counts(quota, pod):
        return Room(None)
    name = quota.metadata.name
    hard, used = amounts(quota.spec.hard), amounts(quota.status.used)
    least = Room(None)
    for key, most in hard.items():
        asked = _asked(pod, key)
        if isinstance(asked, Room):
            return Room(0, f"quota {name!r} bounds {key}, so that {asked.because} has to say it", asked.field)
        if not asked:
            continue
        left = most - used.get(key, Fraction(0))
        count = max(0, left // asked)
        if least.count is None or count < least.count:
            because = (
                f"quota {name!r} has {_shown(key, max(left, Fraction(0)))} {key} left of {_shown(key, most)}, "
                f"and one pod takes {_shown(key, asked)}"
            )
            least = Room(count, because, key)
    return least


def _asked(pod: PodAsking, key: str) -> Fraction | Room:
    """What one pod takes of a quota's key, nothing if the key isn't about pods; or who would have to say it."""
    if key in ("pods", "count/pods"):
        return Fraction(1)
    side, _, resource = key.partition(".")
    if side not in ("requests", "limits") or not resource:
        side, resource = "requests", key
        if key not in _SHORT and not key.startswith("hugepages-"):
            return Fraction(0)

    def amounts_of(asking: Asking) -> Amounts:
        return asking.limits if side == "limits" else asking.requests

    if resource in _MUST_BE_SAID:
        for asking in (*pod.init_containers, *pod.containers):
            if resource not in amounts_of(asking):
                return Room(0, f"container {asking.name!r}", f"{side}.{resource}")
    return _total(pod, amounts_of).get(resource, Fraction(0))


def _total(pod: PodAsking, of: Callable[[Asking], Amounts]) -> Amounts:
    """The sum of the containers, or the largest init container where that is more."""
    total: Amounts = {}
    for asking in pod.containers:
        for resource, amount in of(asking).items():
            total[resource] = total.get(resource, Fraction(0)) + amount
    for asking in pod.init_containers:
        for resource, amount in of(asking).items():
            total[resource] = max(total.get(resource, Fraction(0)), amount)
    return total


def _counts(quota: ResourceQuota, pod: PodAsking) -> bool:
    selector = quota.spec.scope_selector
    scopes = [ScopeRequirement(scope_name=scope, operator="Exists") for scope in quota.spec.scopes]
    return all(_has(pod, scope) for scope in (*scopes, *(selector.match_expressions if selector else ())))


def _has(pod: PodAsking, scope: ScopeRequirement) -> bool:
    best_effort = not any(
        amounts.get(resource)
        for asking in (*pod.init_containers, *pod.containers)
        for amounts in (asking.requests, asking.limits)
        for resource in _MUST_BE_SAID
    )
    match scope.scope_name:
        case "Terminating":
            return pod.deadline
        case "NotTerminating":
            return not pod.deadline
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "PriorityClass":
            return _selects(scope, pod.priority_class)
        case _:
            return False  # of other kinds, or of pods' affinity to other namespaces, which ours don't have


def _selects(scope: ScopeRequirement, value: str) -> bool:
    match scope.operator:
        case "In":
            return value in scope.values
        case "NotIn":
            return value not in scope.values
        case "DoesNotExist":
            return not value
        case _:
            return bool(value)


def _shown(resource: str, amount: Fraction) -> str:
    return write(amount, binary=any(word in resource for word in ("memory", "storage", "hugepages")))
