"""The bus: nobody is held up, and nobody is told less than the truth."""

from __future__ import annotations

import asyncio
import json

from cluster_agent.coordinator.actions import Publish
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.events import EventBus
from tests.agent.federation import within


def bus(**limits: int) -> EventBus:
    return EventBus("edge", b"\x01\x02", **limits)


def publish(on: EventBus, count: int, run: str = "r", start: int = 0) -> None:
    for number in range(start, start + count):
        on.publish([Publish(RunKey("default", run), "task.done", "clean", b"\x01", {"n": number, "id": b"\xab"})])


async def test_an_event_is_a_cloud_event() -> None:
    events = bus()
    publish(events, 1)
    (event,) = events.subscribe().waiting()
    assert event.id == "0102-1"
    assert event.type == "io.bdw-fed.task.done"
    assert event.source == "/clusters/edge/coordinator"
    assert (event.namespace, event.run, event.cluster, event.lamport) == ("default", "r", "edge", 1)
    assert event.subject == "runs/r/steps/clean/tasks/01"
    assert json.loads(event.data_json) == {"n": 0, "id": "ab"}


async def test_a_subscriber_gets_what_is_remembered_then_what_comes() -> None:
    events = bus()
    publish(events, 3)
    subscription = events.subscribe(run="r")
    publish(events, 2, start=3)
    publish(events, 1, run="other")
    assert [json.loads(event.data_json)["n"] for event in subscription.waiting()] == [0, 1, 2, 3, 4]


async def test_the_memory_of_a_run_is_bounded_and_says_what_it_dropped() -> None:
    events = bus(run_events=5)
    publish(events, 12)
    got = events.subscribe().waiting()
    assert len(got) == 5
    assert [event.left_out for event in got] == [7, 0, 0, 0, 0]


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many() -> None:
    events = bus()
    slow = events.subscribe(limit=4)
    quick = events.subscribe()
    publish(events, 10)
    assert [event.left_out for event in slow.waiting()] == [6, 0, 0, 0]
    assert [event.left_out for event in quick.waiting()] == [0] * 10


async def test_waiting_subscribers_wake_and_end_when_closed() -> None:
    events = bus()
    subscription = events.subscribe()

    async def count() -> int:
        seen = 0
        async for _ in subscription:
            seen += 1
            if seen == 3:
                subscription.close()
        return seen

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    publish(events, 3)
    assert await within(counting) == 3
    publish(events, 1)
    assert subscription.waiting() == []


async def test_what_a_peer_has_seen_comes_before_what_follows_here() -> None:
    events = bus()
    publish(events, 2)
    events.witness(100)
    publish(events, 1)
    assert [event.lamport for event in events.subscribe().waiting()] == [1, 2, 101]
    events.witness(50)
    assert events.lamport == 101


async def test_a_number_to_start_from_is_reserved_before_it_is_used() -> None:
    events = bus()
    start = events.reservation(1)
    assert start is not None
    publish(events, 1)
    assert events.reservation(1) is None
    again = EventBus("edge", b"\x01\x02", lamport=start)
    publish(again, 1)
    assert again.lamport > events.lamport


async def test_a_batch_is_told_in_its_order_and_what_happened_before_has_its_time() -> None:
    events = bus(run_events=3)
    all_runs, one_run = events.subscribe(), events.subscribe(run="b")
    kinds = [("a", "one"), ("b", "two"), ("b", "three"), ("a", "four"), ("b", "five")]
    events.publish([Publish(RunKey("default", run), kind, "", b"", {}, ago=len(kind)) for run, kind in kinds])
    told = all_runs.waiting()
    assert [event.type.removeprefix("io.bdw-fed.") for event in told] == [kind for _, kind in kinds]
    assert [event.lamport for event in told] == [1, 2, 3, 4, 5]
    assert [round(told[3].time - event.time) for event in told] == [-1, -1, 1, 0, 0]
    assert [event.lamport for event in one_run.waiting()] == [2, 3, 5]


async def test_old_runs_are_forgotten() -> None:
    events = bus(runs=2)
    for run in ("a", "b", "c"):
        publish(events, 1, run=run)
    assert {event.run for event in events.subscribe().waiting()} == {"b", "c"}
