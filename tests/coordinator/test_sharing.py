"""Copies in shared places: asked first, never relied upon, and gone with what they are of."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from tests.coordinator.federation import RUN, Faults
from tests.coordinator.shared_places import SharingFederation
from tests.coordinator.test_federation import finish, prepared
from tests.settings import few


def sharing(
    seed: int, faults: Faults | None = None, *, loses: float = 0.0, away: float = 0.0, mixed: bool = False
) -> SharingFederation:
    return prepared(seed, faults, partial(SharingFederation, loses=loses, away=away, mixed=mixed))


def over(federation: SharingFederation) -> None:
    finish(federation)
    federation.check_swept()


@few
@given(st.integers(0, 2**32))
def test_a_run_ends_well_and_leaves_nothing_in_places(seed: int) -> None:
    federation = sharing(seed)
    federation.run()
    federation.check_succeeded()
    federation.check_freed()
    federation.check_unshared()
    over(federation)


@few
@given(st.integers(0, 2**32))
def test_places_that_lose_and_spoil_and_do_not_answer_change_nothing(seed: int) -> None:
    federation = sharing(seed, Faults(repeats=0.1), loses=0.02, away=0.2, mixed=True)
    federation.run()
    federation.check_succeeded()
    federation.check_crossed_once()
    over(federation)


@few
@given(st.integers(0, 2**32))
def test_nodes_agents_and_places_may_fail_together(seed: int) -> None:
    federation = sharing(seed, Faults.everything(), loses=0.01, away=0.1, mixed=seed % 2 == 0)
    federation.run()
    federation.check_succeeded()
    over(federation)


@few
@given(st.integers(0, 2**32))
def test_a_lost_store_is_made_good_from_places_too(seed: int) -> None:
    federation = sharing(seed, Faults(node_restart=0.03, node_loses_store=0.5), loses=0.01, mixed=seed % 2 == 0)
    federation.run()
    if federation.failures:
        assert {failure.kind for failure in federation.failures} == {"lost"}
        federation.check_failed()
    else:
        federation.check_succeeded()
    over(federation)


@few
@given(st.integers(0, 2**32))
def test_outputs_in_a_bucket_outlive_the_stores_of_all_nodes(seed: int) -> None:
    """Nodes lose what they have, one after the other or all at once, while the bucket answers when it likes."""
    federation = sharing(seed, away=0.2)
    federation.run()
    federation.want(model_pb2.DESIRED_STATE_FINISHED)
    federation.run()
    for agent in federation.agents.values():
        for node in agent.nodes.values():
            node.restart(store=federation.random.random() < 0.3)
        federation.run()
    for agent in federation.agents.values():
        run = agent.core._book.lives[RUN].run
        for _, unit in run.outputs:
            holding = {node.name for node in agent.nodes.values() if (RUN, unit) in node.store}
            assert holding, "some node has it"
            assert holding == set(run.units[unit].copies), "and it is known which"
    over(federation)


@few
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_run_that_is_cancelled_or_begins_again_leaves_nothing_in_places(seed: int, moment: int) -> None:
    federation = sharing(seed)
    for _ in range(moment):
        federation.step()
    if seed % 2:
        federation.want(model_pb2.DESIRED_STATE_CANCELLED)
    else:
        federation.submit(list(federation.uses.values()), federation.parts, epoch=2)
    federation.run()
    over(federation)
