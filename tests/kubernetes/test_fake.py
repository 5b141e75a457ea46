"""The fake cluster drives pods as a real one does, so that what a runtime makes of it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import NotFound, QuotaExceeded
from cluster_agent.runtimes.kubernetes.api.objects.kinds import EVENTS, NODES, PODS, QUOTAS
from cluster_agent.runtimes.kubernetes.api.reasons import Cause, reason_of
from tests.kubernetes.fake.kubelet import Kubelet
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.manifests import pod


@pytest.mark.parametrize(
    ("drive", "cause"),
    [
        (lambda kubelet: kubelet.run("w1"), None),
        (lambda kubelet: kubelet.succeed("w1"), None),
        (lambda kubelet: kubelet.fail("w1", exit_code=3), Cause.FAILED),
        (lambda kubelet: kubelet.oom("w1"), Cause.OUT_OF_MEMORY),
        (lambda kubelet: kubelet.evict("w1"), Cause.EVICTED),
        (lambda kubelet: kubelet.waiting("w1", "ImagePullBackOff"), Cause.IMAGE),
        (lambda kubelet: kubelet.waiting("w1", "CrashLoopBackOff", last={"exitCode": 1}, restarts=2), Cause.CRASH_LOOP),
        (lambda kubelet: kubelet.unschedulable("w1", "0/1 nodes are available"), Cause.UNSCHEDULABLE),
        (lambda kubelet: kubelet.event("w1", "FailedMount", "no such claim"), Cause.VOLUME),
    ],
)
async def test_what_is_done_to_a_pod_is_understood(
    client: Client, fake: FakeServer, drive: Callable[[Kubelet], None], cause: Cause | None
) -> None:
    await client.create(PODS, pod("w1"), "team")
    drive(fake.kubelet)
    events = await client.list(EVENTS, "team", fields="involvedObject.name=w1")
    found = reason_of(await client.get(PODS, "w1", "team"), events)
    assert (found.cause if found else None) == cause


async def test_a_node_that_vanishes_takes_its_pods_and_says_why(client: Client, fake: FakeServer) -> None:
    fake.kubelet.node("n1")
    fake.kubelet.node("n2")
    for name, node in (("w1", "n1"), ("w2", "n2")):
        await client.create(PODS, pod(name), "team")
        fake.kubelet.run(name, node)
    version = str(fake.store.version)
    fake.kubelet.vanish("n1")
    assert [found.metadata.name for found in await client.list(PODS, "team")] == ["w2"]
    assert [found.metadata.name for found in await client.list(NODES)] == ["n2"]
    seen = []
    async with client.watch(PODS, "team", version, seconds=60, timeout=5) as events:
        async with asyncio.timeout(20):
            while len(seen) < 2:
                said = await anext(events)
                found = reason_of(PODS.decoder.decode(said.object))
                seen.append((said.type, found.cause if found else None))
    assert seen == [("MODIFIED", Cause.NODE_LOST), ("DELETED", Cause.NODE_LOST)]


@pytest.mark.parametrize("end", ["succeed", "fail", "oom", "evict", "delete"])
async def test_a_pod_that_has_ended_does_not_count_against_the_quota_and_is_released_once(
    client: Client, fake: FakeServer, end: str
) -> None:
    hard = {"pods": "1", "requests.cpu": "2"}
    fake.put("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    await client.create(PODS, pod("w1", requests={"cpu": "1500m"}), "team")
    fake.kubelet.run("w1")
    with pytest.raises(QuotaExceeded):
        await client.create(PODS, pod("w2", requests={"cpu": "1"}), "team")
    if end != "delete":
        getattr(fake.kubelet, end)("w1")
    await client.delete(PODS, "w1", "team", grace=0)
    [quota] = await client.list(QUOTAS, "team")
    assert quota.status.used == {"pods": "0", "requests.cpu": "0"}
    await client.create(PODS, pod("w2", requests={"cpu": "1"}), "team")


async def test_a_kind_that_the_server_does_not_have(client: Client, fake: FakeServer) -> None:
    fake.kubelet.node("n1", ready=False)
    assert not (await client.get(NODES, "n1")).ready
    with pytest.raises(NotFound):
        await client.get(NODES, "n2")
