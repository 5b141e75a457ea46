"""Over a real connection: the view follows the server through cuts, compactions, silences and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import Unavailable
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.watch import core
from cluster_agent.runtimes.kubernetes.api.watch.driver import Watcher
from tests.kubernetes.fake.faults import Fault
from tests.kubernetes.fake.server import FakeServer
from tests.kubernetes.manifests import pod


class Watching:
    """A watcher that runs, what it has told, and a way to wait for it."""

    def __init__(self, watcher: Watcher[Pod]) -> None:
        self.watcher = watcher
        self.told: list[core.News[Pod]] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(watcher.run(self._hear))

    def _hear(self, news: core.News[Pod]) -> None:
        self.told.append(news)
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def heard(self, count: int = 1) -> None:
        """Wait until so many lists are whole."""
        await self.until(lambda: sum(isinstance(news, core.Listed) for news in self.told) >= count)

    def changes(self) -> list[str]:
        """What happened to which pod, as `+w1 ~w1 -w1`."""
        signs = {core.Added: "+", core.Modified: "~", core.Deleted: "-"}
        return [signs[type(news)] + news.object.metadata.name for news in self.told if type(news) in signs]

    def troubles(self) -> list[str]:
        return [news.words for news in self.told if isinstance(news, core.Troubled)]


@pytest.fixture
async def watching(client: Client) -> AsyncIterator[Watching]:
    """Of the pods in `team` that have the label app=x, two a page, and not patient with silence."""
    subject = Watching(Watcher(client, PODS, "team", labels="app=x", page=2))
    yield subject
    subject.task.cancel()
    await asyncio.wait([subject.task])


def ours(name: str) -> dict[str, object]:
    return pod(name, labels={"app": "x"})


async def test_what_is_there_is_told_first_and_then_what_happens(
    client: Client, fake: FakeServer, watching: Watching
) -> None:
    for name in ("w1", "w2", "w3"):
        await client.create(PODS, ours(name), "team")
    await client.create(PODS, pod("stranger"), "team")
    await watching.heard()
    fake.kubelet.run("w2")
    await client.delete(PODS, "w1", "team")
    await client.create(PODS, ours("w4"), "team")
    await watching.until(lambda: "+w4" in watching.changes())
    assert watching.changes() == ["+w1", "+w2", "+w3", "~w2", "~w2", "-w1", "+w4"]
    assert {name for _, name in watching.watcher.view} == {"w2", "w3", "w4"}
    assert watching.watcher.view["team", "w2"].status.phase == "Running"


async def test_who_loses_the_label_is_gone_and_who_gets_it_is_new(client: Client, watching: Watching) -> None:
    await client.create(PODS, ours("w1"), "team")
    await watching.heard()
    await client.patch(PODS, "w1", {"metadata": {"labels": {"app": "y"}}}, "team")
    await client.patch(PODS, "w1", {"metadata": {"labels": {"app": "x"}}}, "team")
    await watching.until(lambda: len(watching.changes()) >= 3)
    assert watching.changes() == ["+w1", "-w1", "+w1"]


async def test_after_a_cut_only_what_was_missed_is_told(client: Client, fake: FakeServer, watching: Watching) -> None:
    await client.create(PODS, ours("w1"), "team")
    await watching.heard()
    await fake.watched()
    fake.cut()
    await client.create(PODS, ours("w2"), "team")
    await client.delete(PODS, "w1", "team")
    await watching.until(lambda: "-w1" in watching.changes())
    assert watching.changes() == ["+w1", "+w2", "-w1"]
    assert sum(isinstance(news, core.Listed) for news in watching.told) == 1


@pytest.mark.parametrize("by_event", [False, True])
async def test_after_a_compaction_the_difference_is_told(
    client: Client, fake: FakeServer, watching: Watching, by_event: bool
) -> None:
    fake.expire_by_event = by_event
    for name in ("w1", "w2", "w3"):
        await client.create(PODS, ours(name), "team")
    await watching.heard()
    await fake.watched()
    fake.faults.add(Fault(times=2, watch=True, status=503))
    fake.cut()
    await client.delete(PODS, "w1", "team")
    fake.kubelet.run("w2")
    await client.create(PODS, ours("w4"), "team")
    fake.compact()
    await watching.heard(2)
    assert watching.changes() == ["+w1", "+w2", "+w3", "-w1", "~w2", "+w4"]


async def test_a_bookmark_saves_a_quiet_watch_from_a_compaction(
    client: Client, fake: FakeServer, watching: Watching
) -> None:
    await client.create(PODS, ours("w1"), "team")
    await watching.heard()
    await fake.watched()
    await client.create(PODS, pod("stranger"), "team")
    fake.compact()
    fake.bookmark()
    fake.finish()
    await client.create(PODS, ours("w2"), "team")
    await watching.until(lambda: "+w2" in watching.changes())
    assert sum(isinstance(news, core.Listed) for news in watching.told) == 1


async def test_a_watch_that_hangs_is_given_up(client: Client, fake: FakeServer) -> None:
    await client.create(PODS, ours("w1"), "team")
    watching = Watching(Watcher(client, PODS, "team", idle=0.2))
    try:
        await watching.heard()
        await fake.watched()
        fake.hush()
        await client.create(PODS, ours("w2"), "team")
        await watching.until(lambda: "+w2" in watching.changes())
        assert watching.changes() == ["+w1", "+w2"]
    finally:
        watching.task.cancel()
        await asyncio.wait([watching.task])


async def test_errors_are_told_and_overcome(client: Client, fake: FakeServer, watching: Watching) -> None:
    await watching.heard()
    await fake.watched()
    for fault in (
        Fault(times=1, watch=True, status=500),
        Fault(times=1, watch=True),
        Fault(times=1, watch=True, status=503, event=True),
        Fault(times=1, watch=True, status=403, message="the role was taken away"),
        Fault(times=1, watch=True, status=410, event=True),
    ):
        fake.faults.add(fault)
    fake.cut()
    await client.create(PODS, ours("w1"), "team")
    await watching.until(lambda: "+w1" in watching.changes())
    assert any("the role was taken away" in words for words in watching.troubles())
    assert any("injected ServiceUnavailable" in words for words in watching.troubles())
    assert watching.changes() == ["+w1"]


async def test_a_list_that_expires_between_its_pages_ends_all_the_same(
    client: Client, fake: FakeServer, watching: Watching
) -> None:
    fake.forgetful = True
    for name in ("w1", "w2", "w3", "w4", "w5"):
        await client.create(PODS, ours(name), "team")
    await watching.until(lambda: len(watching.changes()) == 5)
    assert watching.changes() == ["+w1", "+w2", "+w3", "+w4", "+w5"]


async def test_a_large_object_comes_through(client: Client, watching: Watching) -> None:
    await watching.heard()
    manifest = ours("w1")
    manifest["metadata"]["annotations"] = {"large": "x" * 900_000}  # type: ignore[index]
    await client.create(PODS, manifest, "team")
    await watching.until(lambda: bool(watching.changes()))
    assert len(watching.watcher.view["team", "w1"].metadata.annotations["large"]) == 900_000


@pytest.mark.parametrize("error", [RuntimeError("enough"), OSError("enough"), Unavailable("enough")])
async def test_what_the_consumer_raises_ends_the_watch(client: Client, error: Exception) -> None:
    await client.create(PODS, ours("w1"), "team")

    def deliver(news: core.News[Pod]) -> None:
        if isinstance(news, core.Deleted):
            raise error
        if isinstance(news, core.Listed):
            deleting.append(asyncio.create_task(client.delete(PODS, "w1", "team")))

    deleting: list[asyncio.Task[None]] = []
    with pytest.raises(type(error), match="enough"):
        await Watcher(client, PODS, "team").run(deliver)
    await asyncio.wait(deleting)
