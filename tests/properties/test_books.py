"""Whatever goes wrong, at every moment each slot, use, queue and count of each coordinator adds up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.coordinator.federation import Faults
from tests.properties.worlds import World
from tests.settings import few


@few
@given(st.integers(0, 2**32))
def test_the_books_add_up_at_every_event_of_a_quiet_run(seed: int) -> None:
    world = World(seed, audited=1.0)
    world.run()
    world.check_succeeded()


@few
@given(st.integers(0, 2**32))
def test_the_books_add_up_whatever_fails_dies_or_is_cut_off(seed: int) -> None:
    faults = Faults.everything(crash=0.05)
    world = World(seed, faults, audited=0.5)
    world.run()
    world.check_succeeded()


@few
@given(st.integers(0, 2**32))
def test_the_books_add_up_when_stores_are_lost(seed: int) -> None:
    world = World(seed, Faults(node_restart=0.03, node_loses_store=0.5, crash=0.02, repeats=0.1), audited=0.5)
    world.run()
    if world.failures:
        world.check_failed()
    else:
        world.check_succeeded()
