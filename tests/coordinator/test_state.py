"""What survives a restart."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from cluster_agent.coordinator import records, state
from cluster_agent.coordinator.appliers import APPLIERS
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.coordinator.stored import Sum
from tests.coordinator.desk import RUN, Desk
from tests.coordinator.workflows import EACH, Use, output, source

FLIGHTS = source("flights", ["edge1"])
CLEAN = Use("clean", ["edge1"], {"rows": ("inputs.flights.out", EACH)})


def test_a_snapshot_holds_all_that_the_log_said() -> None:
    desk = Desk([FLIGHTS, CLEAN, output(CLEAN)], {"inputs.flights": {"edge1": 3}})
    (task,) = desk.read("inputs.flights").starts
    restored = Coordinator("edge1")
    restored.restore(desk.core.snapshot())
    assert restored.snapshot() == desk.core.snapshot()
    assert restored.tasks(RUN) == desk.core.tasks(RUN)
    for record in desk.log:
        assert records.encode(records.decode(record)) == record
    replayed = Coordinator("edge1")
    for record in desk.log:
        replayed.apply(records.decode(record))
    assert replayed.snapshot() == desk.core.snapshot()
    assert desk.done(task).starts == []


def test_a_snapshot_of_a_newer_release_is_refused_with_what_to_do() -> None:
    newer = msgspec.msgpack.encode([state.VERSION + 1, {}])
    with pytest.raises(ValueError, match="written by a newer release"):
        Coordinator("edge1").restore(newer)


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        records.decode(msgspec.msgpack.encode(["Nonsense", 1]))


def test_whatever_a_log_may_say_is_applied() -> None:
    assert set(get_args(records.AnyRecord)) == set(APPLIERS)


def test_sums_are_equal_when_their_sets_are_whatever_the_order() -> None:
    ids = [bytes([number]) * 16 for number in range(200, 256)]
    one, other, part = Sum(), Sum(), Sum()
    for identifier in ids:
        one.add(identifier)
    for identifier in reversed(ids[10:]):
        other.add(identifier)
    assert one != other
    for identifier in ids[:10]:
        part.add(identifier)
    other.include(part)
    assert one == other
    assert one.total == other.total
    assert Sum(one.count, one.total) == one
