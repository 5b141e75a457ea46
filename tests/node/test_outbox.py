"""What is told of tasks: at once where somebody may wait for it, in company where nobody does, and each thing once."""

from __future__ import annotations

import asyncio

import pytest

from cluster_agent.node.messages import TaskKey
from cluster_agent.node.outbox import Outbox
from cluster_agent.orders.messages import Output, Produced, Result, Results, UnitInfo

DEADLINE = 20.0


class Reader:
    """Takes what there is only when it is woken, as the link does."""

    def __init__(self, outbox: Outbox) -> None:
        self.woken = asyncio.Event()
        outbox.wake = self.woken.set


def key(number: int) -> TaskKey:
    return TaskKey("default", "run1", number.to_bytes(16, "big"), 1)


def unit(number: int) -> Output:
    return Output("out", number, UnitInfo(number.to_bytes(16, "big"), b"", 1))


async def test_the_first_units_of_a_task_are_told_at_once_and_further_ones_in_company() -> None:
    outbox = Outbox()
    reader = Reader(outbox)
    outbox.produced(key(1), [unit(0)])
    assert reader.woken.is_set()
    assert [type(said) for said in outbox.take()] == [Produced]
    reader.woken.clear()
    outbox.produced(key(1), [unit(1)])
    outbox.produced(key(1), [unit(2)])
    assert not reader.woken.is_set(), "whoever is idle has the first"
    await asyncio.wait_for(reader.woken.wait(), DEADLINE)
    told = outbox.take()
    assert [output.index for said in told if isinstance(said, Produced) for output in said.outputs] == [1, 2]
    outbox.close()


@pytest.mark.parametrize("patient", [False, True])
async def test_a_result_takes_with_it_whatever_waits(patient: bool) -> None:
    """And where the node has more to do of the same, it waits itself until it is not alone any more."""
    outbox = Outbox()
    reader = Reader(outbox)
    outbox.started(key(1))
    outbox.result(key(1), Result(key(1).task, 1), patient=patient)
    assert reader.woken.is_set() is not patient
    await asyncio.wait_for(reader.woken.wait(), DEADLINE)
    assert [type(said).__name__ for said in outbox.take()] == ["Started", "Results"]
    assert outbox.take() == []
    assert list(outbox.keys()) == [key(1)], "until it is acknowledged"
    outbox.close()


async def test_many_results_wait_for_no_more() -> None:
    outbox = Outbox()
    reader = Reader(outbox)
    count = 0
    while not reader.woken.is_set():
        outbox.result(key(count), Result(key(count).task, 1), patient=True)
        count += 1
    [told] = outbox.take()
    assert isinstance(told, Results)
    assert [result.task for result in told.results] == [key(number).task for number in range(count)]
    outbox.close()
