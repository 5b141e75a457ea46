"""The driver: nothing is visible before its commit, one tick for whatever is ready, and a crash loses none of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bdw_fed.v1 import control_plane_pb2, model_pb2
from bdw_fed.v1.federation_pb2 import FragmentHeard, SessionRequest
from bdw_fed.v1.peer_pb2 import PeerMessage
from cluster_agent.coordinator.actions import (
    Action,
    Answered,
    Append,
    ProgressChanged,
    Publish,
    SendHub,
    SendPeer,
    TellNode,
    WakeAt,
)
from cluster_agent.coordinator.driver import Driver
from cluster_agent.coordinator.intake import Intake, Mark
from cluster_agent.coordinator.messages import (
    ClearAsked,
    ClockRead,
    DesiredChanged,
    Event,
    NodeSaid,
    PeerSaid,
    RunKey,
    Tick,
)
from cluster_agent.coordinator.records import AnyRecord, decode_all
from cluster_agent.coordinator.runs import last_words
from cluster_agent.coordinator.runs.records import DesiredSet
from cluster_agent.events import EventBus
from cluster_agent.log import Batch, CoordinatorLog, LogFullError, Sent
from cluster_agent.orders.messages import Downward, Result, Results
from tests.agent.federation import until, within

RUN = RunKey("default", "r")
WORD = PeerMessage(namespace="default", run="r").SerializeToString()


SET = DesiredSet(RUN, 1, "")


def event(number: int) -> DesiredChanged:
    return DesiredChanged(RUN, number)


class ScriptedCore:
    """Logs each DesiredChanged, then does what the script says for it. Its state is the list of what was logged."""

    def __init__(self, script: Callable[[Event], list[Action]] = lambda event: []) -> None:
        self.script = script
        self.state: list[int] = []
        self.batches: list[list[Event]] = []
        self.resumed = 0
        self.run_state = model_pb2.FRAGMENT_STATE_RUNNING
        self.desired = model_pb2.DESIRED_STATE_RUNNING

    def handle_all(self, events: Iterable[Event], now: float) -> list[Action]:
        batch = [event for event in events if not isinstance(event, ClockRead)]
        self.batches.append(batch)
        actions: list[Action] = []
        for each in batch:
            if isinstance(each, DesiredChanged):
                record = DesiredSet(each.run, each.desired, "")
                self.apply(record)
                actions.append(Append(record))
            actions += self.script(each)
        return actions

    def apply(self, record: AnyRecord) -> None:
        assert isinstance(record, DesiredSet)
        self.state.append(record.desired)

    def resume(self, now: float) -> list[Action]:
        self.resumed += 1
        return []

    def status(self, run: RunKey) -> model_pb2.FragmentStatus:
        if run != RUN:
            raise KeyError(run)
        return model_pb2.FragmentStatus(
            namespace=run.namespace, run=run.run, state=self.run_state, epoch=len(self.state)
        )

    def run(self, run: RunKey) -> model_pb2.Run:
        found = model_pb2.Run(name=run.run, desired=self.desired)
        found.fragments["c"].CopyFrom(self.status(run))
        return found

    def tasks(self, run: RunKey) -> list[control_plane_pb2.TaskInfo]:
        return []

    def measured(self) -> tuple[list[model_pb2.MeasuredLink], list[model_pb2.MeasuredStep]]:
        return [], []

    def cached(self, namespace: str, step: str) -> list[control_plane_pb2.CachedStep]:
        return []

    def stored(self) -> list[control_plane_pb2.NamespaceStored]:
        return []

    def pools(self) -> list[control_plane_pb2.PoolStatus]:
        return []

    def reserved(self) -> list[control_plane_pb2.HeldSlots]:
        return []

    def inventory(self) -> list[tuple[str, str, int, int]]:
        return [("default", "r", 1, 1)]

    def snapshot(self) -> bytes:
        return bytes(self.state)

    def restore(self, snapshot: bytes, /) -> None:
        self.state = list(snapshot)


class Outside:
    """Everybody whom the driver speaks to: notes what is said, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.statuses: list[model_pb2.FragmentStatus] = []

    def tell(self, node: str, stream: int, commands: Sequence[bytes | Downward]) -> None:
        self.said.append(("tell", node, *commands))

    def pushed(self, destination: str, messages: Sequence[tuple[int, bytes]]) -> None:
        self.said.append(("pushed", destination, *(seq for seq, _ in messages)))

    def durable(self, source: str, log_id: bytes, seq: int) -> None:
        self.said.append(("durable", source, seq))

    def renumbered(self, destination: str, messages: Sequence[tuple[int, bytes]], following: int) -> None:
        self.said.append(("renumbered", destination, *(seq for seq, _ in messages), following))

    def flush(self) -> None:
        pass

    def progress(self, status: model_pb2.FragmentStatus) -> None:
        self.statuses.append(status)


class Driven:
    """A driver with its surroundings."""

    def __init__(
        self, state: Path, core: ScriptedCore, durability: str = "process", snapshot_records: int = 10_000
    ) -> None:
        self.core = core
        self.log = CoordinatorLog.open(state, durability=durability, snapshot_records=snapshot_records)
        self.intake = Intake(limit=8)
        self.bus = EventBus("c", self.log.log_id)
        self.outside = Outside()
        out = self.outside
        self.driver = Driver(core, self.log, self.intake, self.bus, out, out, out, out, durability=durability)


@asynccontextmanager
async def driving(
    state: Path, core: ScriptedCore, durability: str = "process", snapshot_records: int = 10_000
) -> AsyncIterator[Driven]:
    driven = Driven(state, core, durability, snapshot_records)
    driven.driver.start()
    running = asyncio.create_task(driven.driver.run())
    try:
        yield driven
        driven.driver.stop()
        await within(running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        driven.log.close()


DURABILITIES = pytest.mark.parametrize("durability", ["process", "power"])


@DURABILITIES
async def test_what_is_ready_is_one_batch_and_one_commit(tmp_path: Path, durability: str) -> None:
    async with driving(tmp_path, ScriptedCore(), durability) as driven:
        commits = []
        commit = driven.log.commit

        def counted(batch: Batch) -> list[Sent]:
            commits.append(batch.count)
            return commit(batch)

        driven.log.commit = counted  # type: ignore[method-assign]
        for number in range(6):
            driven.intake.submit(event(number))
        await until(lambda: list(driven.log.records()) if durability == "process" else commits)
    assert len(driven.core.batches) == 1
    assert commits == [6]


async def test_what_nodes_say_of_many_tasks_is_taken_in_several_ticks(tmp_path: Path) -> None:
    """So that nobody waits long for his turn."""
    said = NodeSaid("n", Results("default", "r", tuple(Result(bytes([number]), 1) for number in range(200))))
    async with driving(tmp_path, ScriptedCore()) as driven:
        for _ in range(30):
            driven.intake.submit(said)
        await until(lambda: sum(map(len, driven.core.batches)) == 30)
    assert [len(batch) for batch in driven.core.batches] == [11, 11, 8]


@DURABILITIES
async def test_everything_that_a_batch_entails_follows_its_commit(tmp_path: Path, durability: str) -> None:
    def script(event: Event) -> list[Action]:
        if not isinstance(event, PeerSaid):
            return []
        return [
            TellNode("n1", b"1"),
            SendPeer("b", WORD, RUN),
            TellNode("n1", b"2"),
            SendHub("ended", model_pb2.FragmentStatus(run="r").SerializeToString()),
            Publish(RUN, "task.done", "s", b"", {"n": 1}),
            ProgressChanged(RUN),
        ]

    async with driving(tmp_path, ScriptedCore(script), durability) as driven:
        order = driven.outside.said
        commit = driven.log.commit

        def noted(batch: Batch) -> list[Sent]:
            order.append(("commit",))
            return commit(batch)

        driven.log.commit = noted  # type: ignore[method-assign]
        driven.intake.submit(PeerSaid("b", b"hello"), Mark("peer/b", b"B", 5))
        await until(lambda: driven.outside.statuses)
        assert order == [
            ("commit",),
            ("tell", "n1", b"1", b"2"),
            ("pushed", "peer/b", 1),
            ("pushed", "hub", 1),
            ("durable", "peer/b", 5),
        ]
        assert [e.type for e in driven.bus.subscribe().waiting()] == ["io.bdw-fed.task.done"]
    log = CoordinatorLog.open(tmp_path)
    assert log.received()["peer/b"].seq == 5
    ((_, body),) = log.outbox("hub")
    assert SessionRequest.FromString(body).ended.run == "r"
    log.close()


@DURABILITIES
async def test_an_answer_is_given_after_the_commit_of_what_it_tells(tmp_path: Path, durability: str) -> None:
    def script(event: Event) -> list[Action]:
        return [Append(SET), Answered(event.number, b"done")] if isinstance(event, ClearAsked) else []

    async with driving(tmp_path, ScriptedCore(script), durability) as driven:
        order: list[str] = []
        commit = driven.log.commit

        def noted(batch: Batch) -> list[Sent]:
            order.append("commit")
            return commit(batch)

        driven.log.commit = noted  # type: ignore[method-assign]
        gone = asyncio.create_task(driven.intake.ask(lambda number: ClearAsked(number, "default", "gone", 0.0)))
        await asyncio.sleep(0)
        gone.cancel()
        answer = await within(driven.intake.ask(lambda number: ClearAsked(number, "default", "", 0.0)))
        order.append("answered")
        assert (answer, order[-2:]) == (b"done", ["commit", "answered"])
        assert gone.cancelled()
    log = CoordinatorLog.open(tmp_path)
    assert [record for batch in log.records() for record in decode_all(batch)] == [SET, SET]
    log.close()


async def test_the_core_goes_on_while_the_disk_syncs_and_nothing_leaves_before_it_has(tmp_path: Path) -> None:
    """Group commit: what came meanwhile is one further batch."""
    core = ScriptedCore(
        lambda event: [TellNode("n", b"%d" % event.desired)] if isinstance(event, DesiredChanged) else []
    )
    async with driving(tmp_path, core, "power") as driven:
        may_sync = threading.Event()
        commit = driven.log.commit
        groups: list[int] = []

        def slow(batch: Batch) -> list[Sent]:
            may_sync.wait(20)
            groups.append(batch.count)
            return commit(batch)

        driven.log.commit = slow  # type: ignore[method-assign]
        driven.intake.submit(event(1))
        await until(lambda: core.state == [1])
        for number in (2, 3, 4):
            driven.intake.submit(event(number))
            await until(lambda expected=number: core.state[-1] == expected)  # type: ignore[misc]
        assert driven.outside.said == []
        may_sync.set()
        await until(lambda: len(driven.outside.said) == 2)
        assert driven.outside.said == [("tell", "n", b"1"), ("tell", "n", b"2", b"3", b"4")]
        assert groups == [1, 3]


@DURABILITIES
async def test_a_restart_gives_the_same_state_by_snapshot_and_replay(tmp_path: Path, durability: str) -> None:
    async with driving(tmp_path, ScriptedCore(), durability, snapshot_records=10) as driven:
        for number in range(57):
            await driven.intake.room()
            driven.intake.submit(event(number))
        await until(lambda: len(driven.core.state) == 57)
    core = ScriptedCore()
    async with driving(tmp_path, core, durability) as driven:
        assert core.state == list(range(57))
        assert core.resumed == 1
        assert driven.log.snapshot() is not None
        assert len(list(driven.log.records())) < 20


async def test_a_full_disk_stops_the_driver_and_nothing_of_the_batch_is_said(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [TellNode("n", b"go"), SendPeer("b", bytes(500_000), RUN)])
    driven = Driven(tmp_path, core)
    driven.driver.start()
    driven.log._db.execute("PRAGMA max_page_count = 20")
    driven.intake.submit(event(1), Mark("peer/b", b"B", 1))
    with pytest.raises(LogFullError):
        await within(driven.driver.run())
    assert driven.outside.said == []
    driven.log.close()


async def test_acked_messages_leave_the_log_with_the_next_commit(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [SendPeer("b", WORD, RUN)])
    async with driving(tmp_path, core) as driven:
        driven.intake.submit(event(1))
        driven.intake.submit(event(2))
        await until(lambda: ("pushed", "peer/b", 1, 2) in driven.outside.said)
        driven.intake.acked("peer/b", 2)
        driven.intake.submit(event(3))
        await until(lambda: [seq for seq, _ in driven.log.outbox("peer/b")] == [3])


async def test_renumbering_waits_for_what_has_its_number_already(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [SendPeer("b", WORD, RUN)])
    async with driving(tmp_path, core, "power") as driven:
        driven.intake.submit(event(1))
        driven.intake.submit(event(2))
        driven.intake.renumber("peer/b", 41)
        driven.intake.submit(event(3))
        await until(lambda: len(driven.outside.said) == 3)
        assert driven.outside.said == [
            ("pushed", "peer/b", 1, 2),
            ("renumbered", "peer/b", 41, 42, 43),
            ("pushed", "peer/b", 43),
        ]


async def test_a_tick_comes_when_the_core_asked_for_it_and_the_newest_wish_counts(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def script(event: Event) -> list[Action]:
        if not isinstance(event, DesiredChanged):
            return []
        return [WakeAt(loop.time() + 3600), WakeAt(loop.time() + 0.01)]

    async with driving(tmp_path, ScriptedCore(script)) as driven:
        driven.intake.submit(event(1))
        await until(lambda: [Tick()] in driven.core.batches)


async def test_progress_is_told_now_and_then_and_an_end_at_once(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [ProgressChanged(RUN)])
    async with driving(tmp_path, core) as driven:
        for number in range(20):
            driven.intake.submit(event(number))
            await until(lambda expected=number: len(core.state) == expected + 1)  # type: ignore[misc]
        assert len(driven.outside.statuses) < 20
        await until(lambda: driven.outside.statuses[-1].epoch == 20)
        core.run_state = model_pb2.FRAGMENT_STATE_SUCCEEDED
        told = len(driven.outside.statuses)
        driven.driver._counters._told[RUN] = driven.driver._loop.time()
        driven.intake.submit(event(21))
        await until(lambda: len(core.state) == 21)
        assert len(driven.outside.statuses) == told + 1


async def test_progress_of_a_run_that_is_forgotten_by_then_is_nobodys_matter(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [ProgressChanged(RunKey("default", "gone")), ProgressChanged(RUN)])
    async with driving(tmp_path, core) as driven:
        driven.intake.submit(event(1))
        await until(lambda: driven.outside.statuses)
        assert {status.run for status in driven.outside.statuses} == {"r"}


async def test_a_full_queue_holds_those_who_fill_it(tmp_path: Path) -> None:
    driven = Driven(tmp_path, ScriptedCore())
    for number in range(8):
        driven.intake.submit(event(number))
    assert driven.intake.full
    waiting = asyncio.create_task(driven.intake.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    driven.driver.start()
    running = asyncio.create_task(driven.driver.run())
    await within(waiting)
    driven.driver.stop()
    await within(running)
    driven.log.close()


async def test_an_error_of_the_core_ends_the_driver(tmp_path: Path) -> None:
    def broken(event: Event) -> list[Action]:
        raise RuntimeError("a bug")

    driven = Driven(tmp_path, ScriptedCore(broken))
    driven.driver.start()
    driven.intake.submit(Tick())
    with pytest.raises(RuntimeError, match="a bug"):
        await within(driven.driver.run())
    driven.log.close()


async def test_the_lamport_counter_never_goes_back_over_a_restart(tmp_path: Path) -> None:
    core = ScriptedCore(lambda event: [Publish(RUN, "x", "y", b"", {})])
    async with driving(tmp_path, core) as driven:
        driven.intake.submit(event(1))
        await until(lambda: driven.bus.lamport == 1)
        kept = driven.log.meta("lamport")
    assert kept is not None
    assert int.from_bytes(kept, "big") >= 1


class EndingCore(ScriptedCore):
    """Says its last words to a peer, and ends its fragment."""

    def __init__(self) -> None:
        super().__init__(self._last)

    def _last(self, event: Event) -> list[Action]:
        self.run_state = model_pb2.FRAGMENT_STATE_SUCCEEDED
        return [SendPeer("b", WORD, RUN), SendHub("ended", self.status(RUN).SerializeToString())]


def told(log: CoordinatorLog) -> list[SessionRequest]:
    return [SessionRequest.FromString(body) for _, body in log.outbox("hub")]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "_SECONDS", 0.0)


@DURABILITIES
async def test_the_hub_hears_with_an_end_who_lacks_something_and_later_that_nobody_does(
    tmp_path: Path, durability: str, at_once: None
) -> None:
    async with driving(tmp_path, EndingCore(), durability) as driven:
        driven.intake.submit(event(1))
        await until(lambda: ("pushed", "peer/b", 1) in driven.outside.said)
        driven.intake.acked("peer/b", 1)
        await until(lambda: ("pushed", "hub", 2) in driven.outside.said)
    log = CoordinatorLog.open(tmp_path)
    ended, heard = told(log)
    assert list(ended.ended.unheard) == ["b"]
    assert heard.heard == FragmentHeard(namespace="default", run="r", epoch=1)
    log.close()


async def test_a_run_that_is_over_by_then_costs_the_hub_no_second_word(tmp_path: Path, at_once: None) -> None:
    core = EndingCore()
    async with driving(tmp_path, core) as driven:
        driven.intake.submit(event(1))
        await until(lambda: ("pushed", "peer/b", 1) in driven.outside.said)
        core.desired = model_pb2.DESIRED_STATE_FINISHED
        driven.intake.acked("peer/b", 1)
        await until(lambda: not driven.intake.acks_awaited and not driven.driver._last_words._timers)
        assert len(told(driven.log)) == 1


@pytest.mark.parametrize("acked", [False, True])
async def test_what_an_earlier_life_has_said_is_lacked_until_it_is_acked(
    tmp_path: Path, at_once: None, acked: bool
) -> None:
    """Also where the ack had come before the end of that life: nobody has noted whether the hub was told."""
    async with driving(tmp_path, EndingCore()) as driven:
        driven.intake.submit(event(1))
        await until(lambda: ("pushed", "peer/b", 1) in driven.outside.said)
    log = CoordinatorLog.open(tmp_path)
    log.commit(Batch(acked={"hub": 1, "peer/b": 1} if acked else {"hub": 1}))
    log.close()
    core = EndingCore()
    core.run_state = model_pb2.FRAGMENT_STATE_SUCCEEDED
    async with driving(tmp_path, core) as driven:
        if not acked:
            assert driven.intake.acks_awaited
            driven.intake.acked("peer/b", 1)
        await until(lambda: [each.WhichOneof("kind") for each in told(driven.log)] == ["heard"])


async def test_an_end_that_the_hub_has_forgotten_is_said_again_with_who_lacks_something(tmp_path: Path) -> None:
    async with driving(tmp_path, EndingCore()) as driven:
        driven.intake.submit(event(1))
        await until(lambda: ("pushed", "peer/b", 1) in driven.outside.said)
        driven.intake.say(SendHub("ended", driven.core.status(RUN).SerializeToString()))
        await until(lambda: [list(each.ended.unheard) for each in told(driven.log)] == [["b"], ["b"]])


async def test_a_failure_is_told_as_it_is(tmp_path: Path) -> None:
    """The run stops everywhere for it, whoever lacks something."""
    failed = model_pb2.FragmentStatus(namespace="default", run="r", state=model_pb2.FRAGMENT_STATE_FAILED)
    core = ScriptedCore(lambda event: [SendPeer("b", WORD, RUN), SendHub("ended", failed.SerializeToString())])
    async with driving(tmp_path, core) as driven:
        driven.intake.submit(event(1))
        await until(lambda: told(driven.log))
        assert told(driven.log)[0].ended == failed
