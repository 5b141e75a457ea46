"""Who has ended its part of a run knows whose logs lack what it has said, through acks, restarts and renumbering."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.runs.unheard import Unheard

RUN, OTHER = RunKey("default", "r"), RunKey("default", "s")


def test_an_end_names_those_that_lack_something_and_is_complete_with_the_last_ack() -> None:
    unheard = Unheard()
    for cluster, run in (("b", RUN), ("b", OTHER), ("c", RUN), ("b", OTHER)):
        unheard.said(cluster, run)
    assert unheard.ended(RUN) == ["b", "c"]
    assert unheard.heard("c", 1) == []
    assert unheard.heard("b", 1) == [RUN], "what is said of another run is no matter of this one"
    assert not unheard.awaited


def test_who_has_said_nothing_or_was_heard_before_owes_nobody_a_word() -> None:
    unheard = Unheard()
    assert unheard.ended(RUN) == []
    unheard.said("b", RUN)
    assert unheard.heard("b", 1) == [], "the run has not ended"
    assert unheard.ended(RUN) == []
    assert not unheard.awaited


def test_an_earlier_life_has_said_what_is_in_its_outbox() -> None:
    unheard = Unheard()
    unheard.begin("b", 43, [RUN, OTHER])
    unheard.said("b", RUN)
    assert unheard.ended(RUN) == ["b"]
    assert unheard.heard("b", 42) == []
    assert unheard.heard("b", 43) == [RUN]


def test_an_outbox_that_is_numbered_anew_is_lacked_under_its_new_numbers() -> None:
    unheard = Unheard()
    for _ in range(3):
        unheard.said("b", RUN)
    assert unheard.ended(RUN) == ["b"]
    unheard.begin("b", 103, [RUN, RUN])  # two are left of it
    assert unheard.heard("b", 101) == []
    assert unheard.heard("b", 102) == [RUN]


words = st.tuples(st.just("said"), st.sampled_from("bc"), st.sampled_from([RUN, OTHER]))
acks = st.tuples(st.just("heard"), st.sampled_from("bc"), st.integers(0, 12))
lives = st.tuples(st.just("begin"), st.sampled_from("bc"), st.integers(1, 9))


@given(st.lists(words | acks | lives, max_size=40))
def test_what_is_lacked_is_what_the_outbox_has(history: list[tuple[str, str, RunKey | int]]) -> None:
    """Against a plain outbox: numbers and runs, of which an ack takes what it covers, and a new life what is left."""
    unheard = Unheard()
    outbox: dict[str, list[tuple[int, RunKey]]] = {"b": [], "c": []}
    following = {"b": 1, "c": 1}
    for kind, cluster, what in history:
        rows = outbox[cluster]
        if isinstance(what, RunKey):
            unheard.said(cluster, what)
            rows.append((following[cluster], what))
            following[cluster] += 1
        elif kind == "heard":
            number = min(what, following[cluster] - 1)
            ended = bool(unheard.ended(RUN))
            outbox[cluster] = [(seq, run) for seq, run in rows if seq > number]
            left = any(run == RUN for each in outbox.values() for _, run in each)
            assert unheard.heard(cluster, number) == ([RUN] if ended and not left else [])
        else:
            outbox[cluster] = [(what + index, run) for index, (_, run) in enumerate(rows)]
            following[cluster] = what + len(rows)
            unheard.begin(cluster, following[cluster], [run for _, run in rows])
    for run in (RUN, OTHER):
        assert unheard.ended(run) == [name for name, rows in outbox.items() if run in {each for _, each in rows}]
