"""The order in which a step's waiting tasks get a node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.tasks.queues import Queue

KINDS = st.sampled_from(["awaited", "sent", "put", "take", "clear"])
MOVES = st.lists(st.tuples(KINDS, st.integers(0, 7)), max_size=40)


@given(MOVES)
def test_awaited_tasks_come_first_then_those_sent_here_and_then_the_rest_in_their_order(
    moves: list[tuple[str, int]],
) -> None:
    queue = Queue()
    awaited: list[bytes] = []
    sent: list[bytes] = []
    rest: list[bytes] = []
    for move, number in moves:
        task = bytes([number])
        group = next((each for each in (awaited, sent, rest) if task in each), None)
        if move == "clear" and number == 0:
            queue.clear()
            awaited, sent, rest = [], [], []
        elif move == "take":
            assert queue.take(task) == (group is not None)
            if group is not None:
                group.remove(task)
        elif group is None and move == "awaited":
            queue.put_awaited(task)
            awaited.insert(0, task)
        elif group is None and move == "sent":
            queue.put_sent(task)
            sent.insert(0, task)
        elif group is None and move == "put":
            queue.put(task)
            rest.append(task)
        expected = [*awaited, *sent, *rest]
        assert list(queue) == expected
