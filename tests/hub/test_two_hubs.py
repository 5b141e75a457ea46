"""Two hubs on one etcd reserve slots at the same moment: what both try is begun by one, and clusters hold it once.

The clusters count their slots by the production coordinator. One is connected to each hub, so that the answers to an
order come in by both. The history of the runs in etcd, not what somebody saw of it, says what has happened to them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.messages import FragmentAssigned, NodeJoined, Place
from cluster_agent.link.assignments import all_assigned, assigned, forgotten
from control_plane.api.planning import Planning
from control_plane.kinds import Kinds
from control_plane.reservations.driver import Reservations
from control_plane.store.base import Deleted
from control_plane.store.etcd.client import Client
from control_plane.store.etcd.kv import Kv
from control_plane.store.repository import Store
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, Members, RunningHub, apply
from tests.hub.test_reserving import HOLDING
from tests.hub.test_runs import submit, until

CPUS = 2.0
SELDOM = 30.0  # seconds between heartbeats: an agent that goes to another hub is not missed meanwhile
RUNS = 6


class Cluster(FakeAgent):
    """An agent whose coordinator is the real one, with a node that begins everything and ends nothing."""

    def __init__(self, hub: RunningHub, cluster: str) -> None:
        super().__init__(hub, cluster)
        self.core = Coordinator(cluster)
        self.core.handle(NodeJoined("n1", b"1", CPUS, 1 << 30, Place(cluster, "n1", "n1:1")), 1.0)
        self.started: dict[str, set[int]] = {}  # run -> epochs under which it was started
        self.wrong: list[str] = []
        self.answered: list[str] = []  # runs, in the order in which orders to reserve were answered
        self.kept: list[f.SessionRequest] | None = None  # answers that are not given yet, while they are to be kept

    async def _take(self, frame: f.SessionResponse) -> None:
        held = {(namespace, run) for namespace, run, _, _ in self.core.inventory()}
        match frame.WhichOneof("kind"):
            case "assignments":
                events = all_assigned(frame.assignments, held)
            case "assign":
                events = [assigned(frame.assign)]
            case "removed":
                events = [forgotten(frame.removed.namespace, frame.removed.run)]
            case _:
                events = []
        await super()._take(frame)
        for event in events:
            if isinstance(event, FragmentAssigned) and event.desired == m.DESIRED_STATE_RUNNING:
                self._starts(m.Fragment.FromString(event.fragment))
            for action in self.core.handle(event, asyncio.get_running_loop().time()):
                if isinstance(action, SendHub):
                    said = f.SessionRequest()
                    getattr(said, action.kind).ParseFromString(action.message)
                    await self._tell(action.kind, said)

    async def _tell(self, kind: str, said: f.SessionRequest) -> None:
        if kind == "reservation" and self.kept is not None:
            self.kept.append(said)
            return
        await self.say(**{kind: getattr(said, kind)})
        if kind == "reservation":
            async with self._news:
                self.answered.append(said.reservation.run)
                self._news.notify_all()

    async def give_answers(self) -> None:
        """Those that were kept, and from now on at once."""
        kept, self.kept = self.kept or [], None
        for said in kept:
            await self._tell("reservation", said)

    def _starts(self, fragment: m.Fragment) -> None:
        epochs = self.started.setdefault(fragment.run, set())
        if fragment.epoch in epochs:
            return  # the same word again
        epochs.add(fragment.epoch)
        held = {(run, epoch) for _, run, epoch, desired in self.core.inventory() if desired == m.DESIRED_STATE_RESERVED}
        whole = fragment.run in self.holders
        if (fragment.run, fragment.epoch) not in held or not whole:
            self.wrong.append(f"{self.cluster} should start {fragment.run}, and did not hold its slots")

    @property
    def holders(self) -> set[str]:
        """The runs that hold slots here."""
        return {each.run for each in self.core.reserved()}


class Pair:
    """Two hubs and their two clusters, and each version of each run that was stored."""

    def __init__(
        self, hubs: tuple[RunningHub, RunningHub], clusters: tuple[Cluster, Cluster], kinds: Kinds, since: int
    ) -> None:
        self.hubs = hubs
        self.clusters = clusters
        self._kinds = kinds
        self._since = since  # the revision before all runs

    async def history(self, *runs: str) -> dict[str, list[m.Run]]:
        """All versions of these runs, from etcd."""
        newest = {stored.value.name: stored.revision for stored in (await self._kinds.runs.list("default")).items}
        found: dict[str, list[m.Run]] = {run: [] for run in runs}
        last = max(newest.values())
        async with asyncio.timeout(SECONDS), self._kinds.runs.watch("default", after=self._since) as watch:
            async for news in watch:
                for event in news.events:
                    if not isinstance(event, Deleted):
                        found[event.value.name].append(event.value)
                    if event.revision >= last:
                        return found
        raise AssertionError("the watch ended")

    async def newest(self) -> dict[str, m.Run]:
        """The runs as they are stored now."""
        return {stored.value.name: stored.value for stored in (await self._kinds.runs.list("default")).items}

    async def check(self, *runs: str) -> None:
        """Each run was started once, under one epoch, and where all of its slots were held."""
        for run, versions in (await self.history(*runs)).items():
            states = [version.state for version in versions]
            begins = [
                after
                for before, after in itertools.pairwise(versions)
                if before.state == m.RUN_STATE_QUEUED and after.state == m.RUN_STATE_RUNNING
            ]
            assert len(begins) == 1, f"{run} was started {len(begins)} times: {states}"
            epochs = {fragment.epoch for fragment in begins[0].fragments.values()}
            for before, after in itertools.pairwise(versions):
                assert after.reservation.epoch in (0, before.reservation.epoch) or not before.reservation.epoch, (
                    f"attempt {after.reservation.attempts} of {run} was begun while the one before was under way"
                )
            for cluster in self.clusters:
                assert cluster.started.get(run) == epochs, f"{cluster.cluster} has started another attempt of {run}"
        for cluster in self.clusters:
            assert not cluster.wrong


@pytest.fixture
async def pair(empty_server: EtcdServer, members: Members, tmp_path: Path, schedule: Schedule) -> AsyncIterator[Pair]:
    """The second hub has heard of the clusters from the store before one of them comes to it."""
    endpoint = empty_server.etcd.config.endpoint
    first, second = (RunningHub(members, endpoint, empty_server.tls, tmp_path / "hub", SELDOM) for _ in range(2))
    async with first, first.person() as person, Client(empty_server.config()) as client:
        kinds, since = Kinds(Store(client)), await Kv(client).revision()
        for name in ("edge", "cloud"):
            async with FakeAgent(first, name) as seen:
                await seen.beat(cp.NodeStatus(name="n1", ready=True, cpus=CPUS, data_address="127.0.0.1:99"))
                await _noted(kinds, name, since)
        async with second, Cluster(first, "edge") as edge, Cluster(second, "cloud") as cloud:
            for agent in (edge, cloud):
                await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=CPUS, data_address="127.0.0.1:99"))
            await apply(person, HOLDING)
            yield Pair((first, second), (edge, cloud), kinds, since)


async def _noted(kinds: Kinds, cluster: str, since: int) -> None:
    """Wait until the agent's nodes are in its record."""
    async with asyncio.timeout(SECONDS), kinds.agents.watch(after=since) as watch:
        async for news in watch:
            records = [event.value for event in news.events if not isinstance(event, Deleted)]
            if any(record.cluster == cluster and record.status.nodes for record in records):
                return


class Schedule:
    """What a test decides of when things happen in the hubs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meets = False  # hubs that have planned their first attempt wait for each other before they store it
        self.apart = False  # until they have, each hub sees one run alone, not the same one
        self.met: list[str] = []  # the runs whose attempts have met
        self._both = asyncio.Event()
        self._first: dict[Reservations, str] = {}
        self._late: list[tuple[Reservations, m.Run]] = []
        self._plan, self._see = Planning.again, Reservations.run_seen
        monkeypatch.setattr(Planning, "again", lambda *of: self._planned(*of))
        monkeypatch.setattr(Reservations, "run_seen", lambda *of: self._seen(*of))

    async def _planned(self, hub: Planning, run: m.Run, denied: Mapping[str, str]) -> Any:
        planned = await self._plan(hub, run, denied)
        if self.meets and not self._both.is_set():
            self.met.append(run.name)
            if len(self.met) == 2:
                self._both.set()
            await asyncio.wait_for(self._both.wait(), SECONDS)
            for hub_late, run_late in self._late:
                self._see(hub_late, run_late)
            self._late.clear()
        return planned

    def _seen(self, hub: Reservations, run: m.Run) -> None:
        if self.apart and not self._both.is_set():
            if run.name not in self._first.values():
                self._first.setdefault(hub, run.name)
            if self._first.get(hub) != run.name:
                self._late.append((hub, run))
                return
        self._see(hub, run)


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """Laid down before the hubs start."""
    return Schedule(monkeypatch)


async def test_a_run_that_both_hubs_try_at_once_is_begun_by_one(pair: Pair, schedule: Schedule) -> None:
    schedule.meets = True
    async with pair.hubs[0].person() as person:
        run = (await submit(person)).run.name
        await until(person, run, m.RUN_STATE_RUNNING)
        for cluster in pair.clusters:
            await cluster.assigned(run)
    assert schedule.met == [run, run], "both hubs had planned it"
    await pair.check(run)


async def test_of_two_runs_that_two_hubs_try_at_once_for_the_same_slots_one_has_them(
    pair: Pair, schedule: Schedule
) -> None:
    schedule.meets = schedule.apart = True
    async with pair.hubs[0].person() as person, pair.hubs[1].person() as other:
        edge, cloud = pair.clusters
        edge.kept = []
        runs = [(await submit(each)).run.name for each in (person, other)]
        await cloud.until(lambda: set(runs) <= set(cloud.answered), "for both orders")
        await cloud.acked()
        assert all(each.state == m.RUN_STATE_QUEUED for each in (await pair.newest()).values()), "half is nothing"
        await edge.give_answers()
        begun = {run: asyncio.create_task(until(person, run, m.RUN_STATE_RUNNING)) for run in runs}
        await asyncio.wait(begun.values(), timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert sorted(schedule.met) == sorted(runs), "each hub had planned another run"
        (winner,) = (run for run, task in begun.items() if task.done())
        (loser,) = (run for run in runs if run != winner)
        await edge.assigned(winner)
        assert edge.holders == {winner}
        assert loser not in edge.started
        await other.CancelRun(cp.CancelRunRequest(namespace="default", run=winner))
        await begun[loser]
        for cluster in (edge, cloud):
            await cluster.assigned(loser)
        assert edge.holders == {loser}
    await pair.check(*runs)


async def test_of_many_runs_by_both_hubs_each_has_its_turn_once(pair: Pair) -> None:
    async with pair.hubs[0].person() as person, pair.hubs[1].person() as other:
        submitted = await asyncio.gather(*(submit((person, other)[number % 2]) for number in range(RUNS)))
        runs = [each.run.name for each in submitted]

        async def turn(run: str) -> None:
            await until(person, run, m.RUN_STATE_RUNNING)
            for cluster in pair.clusters:
                await cluster.assigned(run)
            assert pair.clusters[0].holders == {run}, "the edge has room for one of them"
            await other.CancelRun(cp.CancelRunRequest(namespace="default", run=run))

        async with asyncio.timeout(3 * SECONDS):
            await asyncio.gather(*(turn(run) for run in runs))
        for run in runs:
            await until(person, run, m.RUN_STATE_CANCELLED)
        await pair.check(*runs)
