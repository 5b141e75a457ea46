"""However units come together, each is consumed once and every run ends, as it is with one task a unit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.coordinator.book import Policy
from tests.coordinator.federation import Faults
from tests.properties.graphs import random_shapes
from tests.properties.test_replacing import Replacing, replaced
from tests.properties.worlds import World
from tests.settings import few

seeds = st.integers(0, 2**32)


class Shaped(Replacing):
    dag = staticmethod(random_shapes)


def shaped(seed: int, faults: Faults | None = None, *, audited: float = 0.2, policy: Policy | None = None) -> World:
    world = World(seed, faults, grow=random_shapes, audited=audited, policy=policy)
    world.run()
    if faults is not None and faults.node_loses_store and world.failures:
        world.check_failed()
    else:
        world.check_succeeded()
    return world


@few
@given(seeds)
def test_the_books_of_a_quiet_run_add_up_and_bytes_cross_once(seed: int) -> None:
    world = shaped(seed, audited=0.5)
    world.check_crossed_once()
    world.finish()


@few
@given(seeds)
def test_the_books_add_up_whatever_fails_dies_or_is_cut_off(seed: int) -> None:
    shaped(seed, Faults.everything())


@few
@given(seeds)
def test_what_was_lost_is_made_again_or_the_run_says_so(seed: int) -> None:
    shaped(seed, Faults(node_restart=0.03, node_loses_store=0.5, crash=0.02, repeats=0.1))


@few
@given(seeds, st.integers(1, 4))
def test_a_run_under_pressure_ends_well(seed: int, bound: int) -> None:
    shaped(seed, Faults.everything(), policy=Policy(units_ahead=bound))


@few
@given(seeds, st.data())
def test_a_crash_at_any_event_changes_nothing(seed: int, data: st.DataObject) -> None:
    quiet = World(seed, grow=random_shapes, crashes=frozenset([0]), audited=0.0)
    quiet.run()
    moment = data.draw(st.integers(1, max(1, quiet.chances)))
    world = World(seed, grow=random_shapes, crashes=frozenset([moment]), audited=0.1)
    world.run()
    world.check_succeeded()
    world.finish()


@few
@given(seeds, st.integers(0, 900))
def test_a_run_begins_again_without_a_lost_cluster(seed: int, moment: int) -> None:
    replaced(seed, [moment], Faults.everything(), kind=Shaped).finish()
