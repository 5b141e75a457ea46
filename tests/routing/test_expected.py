"""Which cluster is preferred, of what is expected of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.clusters.expected import DISTANCE, FINISH, SPREAD, Expected, preferred

HOME = "home"
seconds = st.floats(0, 1e4)
others = st.builds(
    Expected,
    cluster=st.sampled_from(["a", "b", "c", "d"]),
    distance=st.floats(0, 100),
    transfer=seconds,
    queue=seconds,
    start=seconds,
    execution=seconds,
    load=st.floats(0, 50),
    room=st.booleans(),
)
here = st.builds(
    Expected,
    cluster=st.just(HOME),
    distance=st.just(0.0),
    transfer=st.just(0.0),
    queue=seconds,
    start=seconds,
    execution=seconds,
    load=st.floats(0, 50),
    room=st.booleans(),
    begins=st.booleans(),
)
candidates = st.tuples(st.lists(here, max_size=1), st.lists(others, max_size=4, unique_by=lambda each: each.cluster))
some = candidates.map(lambda both: [*both[0], *both[1]]).filter(bool)


@given(some)
def test_nobody_finishes_much_earlier_than_the_cluster_that_is_preferred_for_its_finish(found: list[Expected]) -> None:
    best = preferred(FINISH, HOME, found)
    home = next((each for each in found if each.cluster == HOME and each.begins), None)
    assert best in found
    open_now = [each for each in found if home is None or each is home or each.queue <= each.transfer + 0.199]
    assert min(each.finish for each in open_now) >= best.finish * 0.9 - 0.051


@given(some)
def test_a_unit_that_would_wait_elsewhere_too_waits_at_home(found: list[Expected]) -> None:
    waiting = [each._replace(queue=each.transfer + 0.21) for each in found]
    for begins in (True, False):
        at = [each._replace(begins=begins) if each.cluster == HOME else each for each in waiting]
        home = next((each for each in at if each.cluster == HOME), None)
        best = preferred(FINISH, HOME, at)
        if home is not None and begins:
            assert best is home
        elif home is not None:
            assert min(each.finish for each in at) >= best.finish * 0.9 - 0.051, "it never begins there"


@given(some)
def test_a_unit_leaves_home_only_to_be_done_earlier(found: list[Expected]) -> None:
    best = preferred(FINISH, HOME, found)
    home = next((each for each in found if each.cluster == HOME), None)
    if home is not None and best is not home:
        assert best.finish < home.finish * 0.9 - 0.049


@given(some)
def test_of_clusters_that_are_as_good_the_nearest_gets_the_unit(found: list[Expected]) -> None:
    level = [each._replace(transfer=0.0, queue=1.0, start=0.0, execution=1.0) for each in found]
    best = preferred(FINISH, HOME, level)
    assert best.cluster == HOME or best.distance == min(each.distance for each in level)


@given(some)
def test_distance_takes_the_nearest_with_room_and_else_stays(found: list[Expected]) -> None:
    best = preferred(DISTANCE, HOME, found)
    roomy = [each for each in found if each.room]
    assert best.distance == min(each.distance for each in roomy or found)
    if not roomy and any(each.cluster == HOME for each in found):
        assert best.cluster == HOME


@given(some)
def test_spread_takes_one_of_the_least_loaded(found: list[Expected]) -> None:
    assert preferred(SPREAD, HOME, found).load <= min(each.load for each in found) + 0.1


@given(some, st.sampled_from([FINISH, DISTANCE, SPREAD, ""]))
def test_the_order_of_candidates_does_not_matter(found: list[Expected], prefer: str) -> None:
    assert preferred(prefer, HOME, found) == preferred(prefer, HOME, found[::-1])
