"""The forecast is what the server does: as many pods as it says are admitted, and the next one isn't."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.runtimes.kubernetes.api.objects.limits import LimitRange, ResourceQuota
from cluster_agent.runtimes.kubernetes.api.quota import Asking, PodAsking, Room, amounts, defaulted, room
from tests.kubernetes.fake import admission
from tests.kubernetes.fake.statuses import Refused
from tests.kubernetes.fake.store import Key, Store
from tests.kubernetes.manifests import pod


def quota(name: str = "q", used: dict[str, str] | None = None, **spec: Any) -> ResourceQuota:
    manifest = {"metadata": {"name": name}, "spec": spec, "status": {"used": used or {}}}
    return msgspec.convert(manifest, ResourceQuota)


def limits(type: str = "Container", **item: Any) -> LimitRange:
    return msgspec.convert({"metadata": {"name": "l"}, "spec": {"limits": [{"type": type, **item}]}}, LimitRange)


def asking(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **facts: Any) -> PodAsking:
    return PodAsking((Asking("worker", amounts(requests or {}), amounts(limits or {})),), **facts)


def priority(operator: str, *values: str) -> dict[str, Any]:
    return {"scopeName": "PriorityClass", "operator": operator, "values": values}


def test_without_quotas_there_is_no_end() -> None:
    assert room(asking({"cpu": "1"}), [], []) == Room(None)


def test_what_is_left_is_divided_and_the_scarcest_decides() -> None:
    hard = {"requests.cpu": "4", "requests.memory": "4Gi", "pods": "20"}
    used = {"requests.cpu": "500m", "requests.memory": "1Gi", "pods": "2"}
    found = room(asking({"cpu": "500m", "memory": "1Gi"}), [quota(used=used, hard=hard)], [])
    assert found == Room(3, "quota 'q' has 3Gi requests.memory left of 4Gi, and one pod takes 1Gi", "requests.memory")


def test_the_tightest_of_several_quotas_decides() -> None:
    quotas = [quota("wide", hard={"pods": "9"}), quota("tight", hard={"pods": "2"})]
    assert room(asking(), quotas, []).count == 2
    assert "'tight'" in room(asking(), quotas, []).because


def test_a_quota_on_what_a_container_does_not_say_lets_none_in() -> None:
    found = room(asking({"cpu": "1"}), [quota(hard={"limits.cpu": "4"})], [])
    assert found == Room(0, "quota 'q' bounds limits.cpu, so that container 'worker' has to say it", "limits.cpu")


def test_a_default_says_it_for_the_container() -> None:
    ranges = [limits(default={"cpu": "500m"})]
    assert room(asking(), [quota(hard={"limits.cpu": "2", "requests.cpu": "1"})], ranges).count == 2


@pytest.mark.parametrize(
    ("item", "requests", "defaults"),
    [
        ({"default": {"cpu": "2"}}, "2", "2"),
        ({"default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}, "1", "2"),
        ({"max": {"cpu": "3"}}, "3", "3"),
        ({"max": {"cpu": "3"}, "min": {"cpu": "1"}}, "3", "3"),
        ({"min": {"cpu": "1"}}, "1", None),
    ],
)
def test_defaults_are_taken_from_each_other(item: dict[str, Any], requests: str, defaults: str | None) -> None:
    [filled] = defaulted(asking(), [limits(**item)]).containers
    assert filled.requests == amounts({"cpu": requests})
    assert filled.limits == amounts({"cpu": defaults} if defaults else {})


@pytest.mark.parametrize(
    ("item", "pod", "because", "field"),
    [
        (
            {"max": {"cpu": "1"}},
            asking(limits={"cpu": "2"}),
            "limits 2 cpu, LimitRange 'l' wants at most 1",
            "limits.cpu",
        ),
        (
            {"min": {"memory": "64Mi"}},
            asking({"memory": "1Mi"}),
            "requests 1Mi memory, LimitRange 'l' wants at least 64Mi",
            "requests.memory",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            asking({"cpu": "500m"}, {"cpu": "1500m"}),
            "limits 1500m cpu, LimitRange 'l' wants a limit of at most 2 times the request",
            "limits.cpu",
        ),
        (
            {"default": {"cpu": "1"}},
            asking({"cpu": "2"}),
            "requests more cpu (2) than its limit, 1",
            "requests.cpu",
        ),
    ],
)
def test_a_pod_that_no_room_would_help_is_told_why(
    item: dict[str, Any], pod: PodAsking, because: str, field: str
) -> None:
    found = room(pod, [], [limits(**item)])
    assert (found.count, found.because, found.field) == (0, f"container 'worker' {because}", field)


def test_limits_of_a_whole_pod_count_all_its_containers() -> None:
    two = PodAsking((Asking("a", {}, amounts({"cpu": "1"})), Asking("b", {}, amounts({"cpu": "1"}))))
    found = room(two, [], [limits("Pod", max={"cpu": "1500m"})])
    assert (found.count, found.because) == (0, "the pod limits 2 cpu, LimitRange 'l' wants at most 1500m")


def test_init_containers_count_where_they_ask_for_more() -> None:
    pod = PodAsking((Asking("a", amounts({"cpu": "1"})),), (Asking("i", amounts({"cpu": "3"})),))
    assert room(pod, [quota(hard={"requests.cpu": "7"})], []).count == 2


@pytest.mark.parametrize(
    ("spec", "facts", "counts"),
    [
        ({"scopes": ["Terminating"]}, {}, False),
        ({"scopes": ["Terminating"]}, {"deadline": True}, True),
        ({"scopes": ["BestEffort"]}, {}, False),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, {}, True),
        ({"scopeSelector": {"matchExpressions": [priority("In", "high")]}}, {}, False),
        ({"scopeSelector": {"matchExpressions": [priority("In", "high")]}}, {"priority_class": "high"}, True),
        ({"scopeSelector": {"matchExpressions": [priority("NotIn", "high")]}}, {"priority_class": "low"}, True),
        ({"scopeSelector": {"matchExpressions": [priority("DoesNotExist")]}}, {}, True),
        ({"scopeSelector": {"matchExpressions": [priority("Exists")]}}, {}, False),
    ],
)
def test_a_quota_counts_the_pods_of_its_scopes_alone(spec: dict[str, Any], facts: dict[str, Any], counts: bool) -> None:
    found = room(asking({"cpu": "1"}, **facts), [quota(hard={"pods": "1"}, **spec)], [])
    assert found.count == (1 if counts else None)


def test_nothing_is_left_where_more_is_used_than_allowed() -> None:
    assert room(asking(), [quota(used={"pods": "5"}, hard={"pods": "3"})], []).count == 0


CPU = st.sampled_from(["100m", "250m", "500m", "1", "2"])
RESOURCES = st.dictionaries(st.sampled_from(["cpu", "memory"]), CPU)
HARD = st.dictionaries(
    st.sampled_from(["pods", "cpu", "requests.cpu", "limits.cpu", "requests.memory", "limits.memory"]),
    st.sampled_from(["0", "500m", "1", "2", "3500m", "5"]),
    max_size=3,
)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["Container", "Pod"])},
    optional={
        "min": RESOURCES,
        "max": RESOURCES,
        "default": RESOURCES,
        "defaultRequest": RESOURCES,
        "maxLimitRequestRatio": st.fixed_dictionaries({"cpu": st.sampled_from(["1", "2"])}),
    },
)
SCOPES = st.lists(st.sampled_from(["BestEffort", "NotBestEffort", "NotTerminating"]), max_size=1)


@given(RESOURCES, RESOURCES, st.lists(st.tuples(HARD, SCOPES), max_size=2), st.lists(ITEMS, max_size=2))
def test_the_forecast_is_what_the_server_admits(
    requests: dict[str, str], most: dict[str, str], quotas: list[Any], items: list[Any]
) -> None:
    store = Store()
    for number, (hard, scopes) in enumerate(quotas):
        key = Key("resourcequotas", "team", f"q{number}")
        store.create(key, {"metadata": {}, "spec": {"hard": hard, "scopes": scopes}})
    for number, item in enumerate(items):
        store.create(Key("limitranges", "team", f"l{number}"), {"metadata": {}, "spec": {"limits": [item]}})
    found = room(
        asking(requests, most),
        [msgspec.convert(each, ResourceQuota) for each in store.within("resourcequotas")],
        [msgspec.convert(each, LimitRange) for each in store.within("limitranges")],
    )
    admitted = 0
    while admitted < 60:
        manifest = pod(f"w{admitted}", requests=dict(requests), limits=dict(most))
        try:
            admission.admit(store, manifest, "team")
        except Refused:
            break
        admitted += 1
    assert admitted == (60 if found.count is None else found.count)
    assert bool(found.because) == (found.count is not None)


def test_amounts_are_exact() -> None:
    assert amounts({"cpu": "100m"}) == {"cpu": Fraction(1, 10)}
    tenths = quota(hard={"requests.cpu": "1"})
    assert room(asking({"cpu": "100m"}), [tenths], []).count == 10
