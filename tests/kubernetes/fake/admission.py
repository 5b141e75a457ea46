"""What happens to a pod before it is stored: defaults, LimitRanges, ResourceQuotas.

Written from the API's documentation and not from the product's `quota` module, so that the two can be compared.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from cluster_agent.runtimes.kubernetes.api.quantity import parse, write
from tests.kubernetes.fake.statuses import Refused, forbidden
from tests.kubernetes.fake.store import Key, Store

Manifest = dict[str, Any]


def admit(store: Store, pod: Manifest, namespace: str) -> None:
    """Fill in what the pod leaves open; Refused if it may not be."""
    name = pod["metadata"]["name"]
    pod.setdefault("status", {}).setdefault("phase", "Pending")
    pod["spec"].setdefault("restartPolicy", "Always")
    pod["spec"].setdefault("terminationGracePeriodSeconds", 30)
    items = [item for range in store.within("limitranges", namespace) for item in range["spec"]["limits"]]
    for container in _containers(pod):
        resources = container.setdefault("resources", {})
        limits, requests = resources.setdefault("limits", {}), resources.setdefault("requests", {})
        for resource, limit in limits.items():
            requests.setdefault(resource, limit)
        for item in items:
            if item["type"] == "Container":
                _default(item, limits, requests)
        for resource, limit in limits.items():
            if resource in requests and parse(requests[resource]) > parse(limit):
                words = f'"{requests[resource]}": must be less than or equal to {resource} limit of {limit}'
                raise Refused("Invalid", f'Pod "{name}" is invalid: spec.containers[0].resources.requests: {words}')
    faults = [fault for item in items for fault in _faults(item, pod)]
    if faults:
        raise forbidden("pods", name, faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    for quota in list(store.within("resourcequotas", namespace)):
        _charge(store, quota, pod)


def release(store: Store, pod: Manifest) -> None:
    """The pod doesn't count any more."""
    for quota in list(store.within("resourcequotas", pod["metadata"]["namespace"])):
        if _counted(quota, pod):
            _add(store, quota, {key: -amount for key, amount in _usage(pod, quota).items()})


def _default(item: Manifest, limits: Manifest, requests: Manifest) -> None:
    default = {**item.get("max", {}), **item.get("default", {})}
    default_request = {**item.get("min", {}), **default, **item.get("defaultRequest", {})}
    for resource, quantity in default.items():
        limits.setdefault(resource, quantity)
    for resource, quantity in default_request.items():
        requests.setdefault(resource, quantity)


def _faults(item: Manifest, pod: Manifest) -> list[str]:
    kind = item["type"]
    if kind == "Container":
        subjects = [container["resources"] for container in _containers(pod)]
    elif kind == "Pod":
        subjects = [{side: _total(pod, side) for side in ("requests", "limits")}]
    else:
        return []
    found = []
    for subject in subjects:
        for resource, least in item.get("min", {}).items():
            request, limit = subject["requests"].get(resource), subject["limits"].get(resource)
            words = f"minimum {resource} usage per {kind} is {least}"
            if request is None:
                found.append(f"{words}.  No request is specified")
            elif parse(request) < parse(least):
                found.append(f"{words}, but request is {request}")
            elif limit is not None and parse(limit) < parse(least):
                found.append(f"{words}, but limit is {limit}")
        for resource, most in item.get("max", {}).items():
            request, limit = subject["requests"].get(resource), subject["limits"].get(resource)
            words = f"maximum {resource} usage per {kind} is {most}"
            if limit is None:
                found.append(f"{words}.  No limit is specified")
            elif parse(limit) > parse(most):
                found.append(f"{words}, but limit is {limit}")
            elif request is not None and parse(request) > parse(most):
                found.append(f"{words}, but request is {request}")
        for resource, ratio in item.get("maxLimitRequestRatio", {}).items():
            request, limit = subject["requests"].get(resource), subject["limits"].get(resource)
            words = f"{resource} max limit to request ratio per {kind} is {ratio}"
            if request is None or not parse(request):
                found.append(f"{words}, but no request is specified or request is 0")
            elif limit is None:
                found.append(f"{words}, but no limit is specified")
            elif parse(limit) / parse(request) > parse(ratio):
                found.append(f"{words}, but provided ratio is {float(parse(limit) / parse(request)):f}")
    return found


def _charge(store: Store, quota: Manifest, pod: Manifest) -> None:
    if not _counted(quota, pod):
        return
    name, hard = quota["metadata"]["name"], quota["spec"]["hard"]
    used = quota.get("status", {}).get("used", {})
    unsaid = []
    for key in sorted(hard):
        side, resource = _meaning(key)
        if resource in ("cpu", "memory"):
            lacks = [each["name"] for each in _containers(pod) if resource not in each["resources"][side]]
            unsaid += [f"{key} for: {','.join(lacks)}"] if lacks else []
    if unsaid:
        words = f"failed quota: {name}: must specify {'; '.join(unsaid)}"
        raise forbidden("pods", pod["metadata"]["name"], words)
    usage = _usage(pod, quota)
    over = [key for key, amount in usage.items() if amount and parse(used.get(key, "0")) + amount > parse(hard[key])]
    if over:
        asked = ",".join(f"{key}={write(usage[key])}" for key in over)
        taken = ",".join(f"{key}={used.get(key, '0')}" for key in over)
        most = ",".join(f"{key}={hard[key]}" for key in over)
        words = f"exceeded quota: {name}, requested: {asked}, used: {taken}, limited: {most}"
        raise forbidden("pods", pod["metadata"]["name"], words)
    _add(store, quota, usage)


def _add(store: Store, quota: Manifest, usage: dict[str, Fraction]) -> None:
    def change(manifest: Manifest) -> None:
        status = manifest.setdefault("status", {})
        status["hard"] = manifest["spec"]["hard"]
        used = status.setdefault("used", {})
        for key, amount in usage.items():
            used[key] = write(parse(used.get(key, "0")) + amount)

    store.change(Key("resourcequotas", quota["metadata"]["namespace"], quota["metadata"]["name"]), change)


def _counted(quota: Manifest, pod: Manifest) -> bool:
    asks = any(
        resource in each["resources"][side]
        for each in _containers(pod)
        for side in ("requests", "limits")
        for resource in ("cpu", "memory")
    )
    terminating = pod["spec"].get("activeDeadlineSeconds") is not None
    facts = {
        "BestEffort": not asks,
        "NotBestEffort": asks,
        "Terminating": terminating,
        "NotTerminating": not terminating,
    }
    return all(facts[scope] for scope in quota["spec"].get("scopes", []))


def _usage(pod: Manifest, quota: Manifest) -> dict[str, Fraction]:
    found = {}
    for key in quota["spec"]["hard"]:
        side, resource = _meaning(key)
        if key in ("pods", "count/pods"):
            found[key] = Fraction(1)
        elif side:
            found[key] = parse(_total(pod, side).get(resource, "0"))
    return found


def _meaning(key: str) -> tuple[str, str]:
    if key in ("cpu", "memory", "ephemeral-storage"):
        return "requests", key
    side, _, resource = key.partition(".")
    return (side, resource) if side in ("requests", "limits") else ("", "")


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def _total(pod: Manifest, side: str) -> dict[str, str]:
    total: dict[str, Fraction] = {}
    for container in pod["spec"]["containers"]:
        for resource, quantity in container["resources"][side].items():
            total[resource] = total.get(resource, Fraction(0)) + parse(quantity)
    for container in pod["spec"].get("initContainers", []):
        for resource, quantity in container["resources"][side].items():
            total[resource] = max(total.get(resource, Fraction(0)), parse(quantity))
    return {resource: write(amount) for resource, amount in total.items()}
