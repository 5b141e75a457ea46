"""Each verb does what the API says, and a refusal is told apart by what one can do about it."""

from __future__ import annotations

import asyncio

import pytest

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import (
    AdmissionDenied,
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    QuotaExceeded,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from cluster_agent.runtimes.kubernetes.api.objects.kinds import EVENTS, LIMIT_RANGES, NODES, PODS, QUOTAS
from tests.kubernetes.conftest import Clock
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.manifests import pod


async def test_what_was_created_is_read_back(client: Client) -> None:
    created = await client.create(PODS, pod("w1", labels={"app": "x"}, limits={"memory": "512Mi"}), "team")
    read = await client.get(PODS, "w1", "team")
    assert read == created
    assert (read.metadata.name, read.metadata.namespace, read.status.phase) == ("w1", "team", "Pending")
    assert read.metadata.uid
    assert read.spec.containers[0].resources.requests == {"memory": "512Mi"}


async def test_a_name_is_given_once(client: Client) -> None:
    await client.create(PODS, pod("w1"), "team")
    with pytest.raises(AlreadyExists, match=r"can't create pods/w1 in team: .*already exists"):
        await client.create(PODS, pod("w1"), "team")
    await client.create(PODS, pod("w1"), "another")


async def test_every_kind_is_understood(client: Client, fake: FakeServer) -> None:
    fake.kubelet.node("n1", cpu="4")
    fake.put("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}})
    item = {"type": "Container", "default": {"cpu": "1"}}
    fake.put("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [item]}})
    await client.create(PODS, pod("w1"), "team")
    fake.kubelet.event("w1", "FailedScheduling", "no room")
    [node], [event] = await client.list(NODES), await client.list(EVENTS, "team")
    [quota], [range] = await client.list(QUOTAS, "team"), await client.list(LIMIT_RANGES, "team")
    assert (node.ready, node.status.allocatable["cpu"]) == (True, "4")
    assert (event.reason, event.involved_object.name) == ("FailedScheduling", "w1")
    assert event.at is not None
    assert (quota.spec.hard, quota.status.used) == ({"pods": "2"}, {"pods": "1"})
    assert range.spec.limits[0].default == {"cpu": "1"}


async def test_a_list_comes_whole_in_pages_and_by_selector(client: Client, fake: FakeServer) -> None:
    for number in range(7):
        await client.create(PODS, pod(f"w{number}", labels={"odd": str(number % 2)}), "team")
    await client.create(PODS, pod("other", labels={"odd": "0"}), "another")
    fake.kubelet.run("w3", node="n9")
    assert [found.metadata.name for found in await client.list(PODS, "team", limit=2)] == [f"w{n}" for n in range(7)]
    assert len([query for _, path, query in fake.requests if query.get("limit") == "2"]) == 4
    odd = await client.list(PODS, "team", labels="odd=1")
    assert [found.metadata.name for found in odd] == ["w1", "w3", "w5"]
    assert [found.metadata.name for found in await client.list(PODS, fields="spec.nodeName=n9")] == ["w3"]
    assert len(await client.list(PODS)) == 8


async def test_a_list_whose_moment_is_forgotten_between_its_pages_starts_anew(client: Client, fake: FakeServer) -> None:
    for number in range(5):
        await client.create(PODS, pod(f"w{number}"), "team")
    page = await client.page(PODS, "team", limit=2)
    fake.compact()
    with pytest.raises(Gone):
        await client.page(PODS, "team", limit=2, token=page.metadata.continue_)
    fake.forgetful = True
    fake.requests.clear()
    assert len(await client.list(PODS, "team", limit=2)) == 5
    assert [sorted(query) for _, _, query in fake.requests] == [["limit"], ["continue", "limit"], []]


async def test_a_pod_on_a_node_is_deleted_when_its_containers_have_ended(client: Client, fake: FakeServer) -> None:
    await client.create(PODS, pod("w1"), "team")
    fake.kubelet.run("w1")
    await client.delete(PODS, "w1", "team", grace=5)
    leaving = await client.get(PODS, "w1", "team")
    assert leaving.metadata.deletion_timestamp is not None
    assert leaving.metadata.deletion_grace_period_seconds == 5
    fake.kubelet.gone("w1")
    with pytest.raises(NotFound):
        await client.get(PODS, "w1", "team")


async def test_without_grace_a_pod_is_deleted_at_once(client: Client, fake: FakeServer) -> None:
    await client.create(PODS, pod("w1"), "team")
    fake.kubelet.run("w1")
    await client.delete(PODS, "w1", "team", grace=0)
    with pytest.raises(NotFound, match=r'can\'t delete pods/w1 in team: pods "w1" not found'):
        await client.delete(PODS, "w1", "team", grace=0)


async def test_only_the_object_that_was_meant_is_deleted(client: Client) -> None:
    first = await client.create(PODS, pod("w1"), "team")
    await client.delete(PODS, "w1", "team", uid=first.metadata.uid)
    second = await client.create(PODS, pod("w1"), "team")
    with pytest.raises(Conflict, match="UID in the precondition"):
        await client.delete(PODS, "w1", "team", uid=first.metadata.uid, propagation="Background")
    assert (await client.get(PODS, "w1", "team")).metadata.uid == second.metadata.uid


async def test_apply_makes_changes_and_takes_back_what_is_ours(client: Client) -> None:
    await client.apply(PODS, pod("w1", labels={"a": "1", "b": "1"}), "team", manager="agent")
    again = await client.apply(PODS, pod("w1", labels={"a": "2"}), "team", manager="agent")
    assert again.metadata.labels == {"a": "2"}
    same = await client.apply(PODS, pod("w1", labels={"a": "2"}), "team", manager="agent")
    assert same.metadata.resource_version == again.metadata.resource_version


async def test_apply_takes_nothing_from_others_unless_forced(client: Client) -> None:
    await client.apply(PODS, pod("w1", labels={"a": "theirs"}), "team", manager="somebody")
    ours = {"metadata": {"name": "w1", "labels": {"a": "ours"}}}
    with pytest.raises(Conflict, match=r"conflict with 'somebody': \.metadata\.labels\.a"):
        await client.apply(PODS, ours, "team", manager="agent")
    assert (await client.get(PODS, "w1", "team")).metadata.labels == {"a": "theirs"}
    await client.apply(PODS, ours, "team", manager="agent", force=True)
    assert (await client.get(PODS, "w1", "team")).metadata.labels == {"a": "ours"}


async def test_a_patch_changes_what_it_names(client: Client) -> None:
    await client.create(PODS, pod("w1", labels={"a": "1", "b": "1"}), "team")
    patched = await client.patch(PODS, "w1", {"metadata": {"labels": {"a": "2", "b": None}}}, "team")
    assert patched.metadata.labels == {"a": "2"}
    container = {"spec": {"containers": [{"name": "worker", "image": "other:1"}]}}
    patched = await client.patch(PODS, "w1", container, "team", type="strategic")
    assert [each.image for each in patched.spec.containers] == ["other:1"]


async def test_the_end_of_a_log_is_read_and_that_of_the_container_before(client: Client, fake: FakeServer) -> None:
    await client.create(PODS, pod("w1"), "team")
    fake.kubelet.logs["w1", "worker", False] = "one\ntwo\nthree\n"
    fake.kubelet.logs["w1", "worker", True] = "last words\n"
    assert await client.logs("w1", "team", tail=2) == "two\nthree\n"
    assert await client.logs("w1", "team", previous=True) == "last words\n"
    with pytest.raises(Invalid, match="container nobody is not valid"):
        await client.logs("w1", "team", container="nobody")


async def test_a_full_quota_is_told_from_other_refusals(client: Client, fake: FakeServer) -> None:
    fake.put("resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})
    await client.create(PODS, pod("w1"), "team")
    with pytest.raises(QuotaExceeded, match="exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"):
        await client.create(PODS, pod("w2"), "team")
    await client.delete(PODS, "w1", "team")
    await client.create(PODS, pod("w2"), "team")


async def test_a_limit_range_denies_and_fills_in(client: Client, fake: FakeServer) -> None:
    item = {"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}}
    fake.put("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [item]}})
    created = await client.create(PODS, pod("w1"), "team")
    assert created.spec.containers[0].resources.limits == {"cpu": "500m"}
    with pytest.raises(AdmissionDenied, match="maximum cpu usage per Container is 1, but limit is 2"):
        await client.create(PODS, pod("w2", limits={"cpu": "2"}), "team")
    ratio = {"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}
    fake.put("limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [ratio]}})
    with pytest.raises(AdmissionDenied, match=r"ratio per Container is 2, but provided ratio is 3\.0"):
        await client.create(PODS, pod("w2", requests={"cpu": "100m"}, limits={"cpu": "300m"}), "team")


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (403, 'pods is forbidden: User "u" cannot create resource "pods" in API group ""', Forbidden),
        (403, 'admission webhook "v.kyverno.svc" denied the request: no', AdmissionDenied),
        (400, 'admission webhook "v.example.com" denied the request: no', AdmissionDenied),
        (403, 'pods "w" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', AdmissionDenied),
        (
            403,
            'pods "w" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
            QuotaExceeded,
        ),
        (403, 'pods "w" is forbidden: failed quota: q: must specify limits.cpu for: worker', QuotaExceeded),
        (
            422,
            "pods \"w\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            AdmissionDenied,
        ),
        (422, 'Pod "w" is invalid: spec.containers: Required value', Invalid),
        (400, "the body is not JSON", Invalid),
        (404, "the server could not find the requested resource", NotFound),
        (409, "the object has been modified", Conflict),
        (410, "too old", Gone),
    ],
)
async def test_each_refusal_is_its_own_error_and_not_asked_for_again(
    client: Client, fake: FakeServer, status: int, message: str, error: type[ApiError]
) -> None:
    fake.faults.add(Fault(times=1, status=status, message=message))
    with pytest.raises(ApiError) as raised:
        await client.create(PODS, pod("w"), "team")
    assert type(raised.value) is error
    assert str(raised.value) == f"can't create pods/w in team: {message}"
    assert len(fake.requests) == 1


async def test_what_the_server_asks_to_wait_is_waited(client: Client, fake: FakeServer, clock: Clock) -> None:
    fake.faults.add(Fault(times=2, status=429, retry_after=3))
    await client.create(PODS, pod("w1"), "team")
    assert len(clock.slept) == 2
    assert all(3 <= slept <= 3.3 for slept in clock.slept)


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_a_server_in_trouble_is_asked_again_what_may_be_asked_twice(
    client: Client, fake: FakeServer, clock: Clock, status: int
) -> None:
    await client.create(PODS, pod("w1"), "team")
    fake.faults.add(Fault(times=3, status=status))
    assert (await client.get(PODS, "w1", "team")).metadata.name == "w1"
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 3


async def test_a_creation_whose_answer_is_lost_is_not_repeated(client: Client, fake: FakeServer) -> None:
    fake.faults.add(Fault(times=1, method="POST", after=True))
    with pytest.raises(Unavailable) as raised:
        await client.create(PODS, pod("w1"), "team")
    assert raised.value.uncertain
    assert [method for method, _, _ in fake.requests] == ["POST"]
    assert (await client.get(PODS, "w1", "team")).metadata.name == "w1"


async def test_a_deletion_whose_answer_is_lost_is_repeated(client: Client, fake: FakeServer) -> None:
    created = await client.create(PODS, pod("w1"), "team")
    fake.faults.add(Fault(times=1, method="DELETE", after=True))
    with pytest.raises(NotFound):
        await client.delete(PODS, "w1", "team", uid=created.metadata.uid)


async def test_two_creations_that_race_for_a_quota_are_no_conflict_of_ours(client: Client, fake: FakeServer) -> None:
    message = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    fake.faults.add(Fault(times=1, method="POST", status=409, message=message))
    assert (await client.create(PODS, pod("w1"), "team")).metadata.name == "w1"


async def test_patience_ends(client: Client, fake: FakeServer, clock: Clock) -> None:
    fake.faults.add(Fault(times=1000, status=503))
    with pytest.raises(Unavailable, match="can't list pods in team: injected ServiceUnavailable"):
        await client.list(PODS, "team")
    assert clock.now <= 30
    fake.faults.waiting.clear()
    fake.faults.add(Fault(times=1, status=429, retry_after=60))
    with pytest.raises(TooManyRequests):
        await client.list(PODS, "team")


async def test_a_server_that_is_not_there_has_done_nothing(client: Client, fake: FakeServer, clock: Clock) -> None:
    await fake.__aexit__()
    try:
        with pytest.raises(Unavailable, match=f"no answer from https://127.0.0.1:{fake.port}") as raised:
            await client.create(PODS, pod("w1"), "team")
        assert not raised.value.uncertain
        assert len(clock.slept) > 3
    finally:
        await fake.__aenter__()


async def test_an_answer_of_a_proxy_in_between_is_shown(client: Client, fake: FakeServer) -> None:
    fake.faults.add(Fault(times=1, method="POST", status=502, page="<h1>Bad\n gateway</h1>"))
    with pytest.raises(Unavailable, match="can't create pods/w1 in team: <h1>Bad gateway</h1>"):
        await client.create(PODS, pod("w1"), "team")


async def test_a_name_is_never_taken_for_an_address(client: Client, fake: FakeServer) -> None:
    with pytest.raises(NotFound):
        await client.get(PODS, "../nodes/n1", "team")
    assert [path for _, path, _ in fake.requests] == ["/api/v1/namespaces/team/pods/../nodes/n1"]


async def test_credentials_that_have_expired_are_loaded_anew(client: Client, fake: FakeServer) -> None:
    await client.create(PODS, pod("w1"), "team")
    fake.token = "another"
    with pytest.raises(Unauthorized, match="does not accept the credentials of context 'fake' of kubeconfig"):
        await client.get(PODS, "w1", "team")
    fake.kubeconfig.write_text(fake.kubeconfig.read_text().replace("let-me-in", "another"))
    names = await asyncio.gather(*(client.get(PODS, "w1", "team") for _ in range(5)))
    assert {found.metadata.name for found in names} == {"w1"}
