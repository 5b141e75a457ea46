"""A run that was stopped at any moment, and is tried again: it ends as if it had never been stopped, once."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from tests.coordinator.federation import RUN, RUNNING, Faults
from tests.coordinator.workflows import Use, fragments
from tests.properties.graphs import Parts, random_dag
from tests.properties.test_replacing import Replacing
from tests.settings import few

RETAINING = model_pb2.Policy(retain=1e6)
_TRIES = "tries"  # no cluster is lost


class Trying(Replacing):
    """The run is cancelled at these numbers of steps, retained, and tried again; each cluster hears of it when it does.

    `slow`: there may be a while between these words.
    """

    slow = True

    def grown(self, random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
        self.run_policy = RETAINING
        self.lost = [_TRIES] * len(self.moments)
        return random_dag(random, clusters)

    def replace(self) -> None:
        """Stop it, and begin again."""
        self.epoch += 1
        self.replaced = True
        new = fragments(self.uses.values(), self.parts, list(self.agents), epoch=self.epoch, policy=RETAINING)
        waits = (0, 3, 50, 400) if self.slow else (0,)
        for cluster in self.agents:
            due = max((step for step, who, _ in self.told_late if who == cluster), default=self.steps_taken)
            for event in (
                messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_CANCELLED),
                messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_RETAINED),
                messages.FragmentAssigned(new[cluster], RUNNING),
            ):
                due += self.random.choice(waits)
                self.told_late.append((due, cluster, event))
        self.told_late.sort(key=lambda each: each[0])

    def check_tried(self) -> None:
        self.lost = []
        self.check_replaced()


class AtOnce(Trying):
    slow = False

    def starting(self) -> bool:
        """No time passes either while the hub's words are on their way, or what is retained could run out."""
        return super().starting() or bool(self.told_late) or any(agent.hub for agent in self.agents.values())


def tried(seed: int, moments: Sequence[int], faults: Faults | None = None, kind: type[Trying] = Trying) -> Trying:
    world = kind(seed, moments, faults, 0.0 if kind is AtOnce else 0.5)
    world.run(most=60_000)
    world.check_tried()
    return world


@few
@given(st.integers(0, 2**32), st.lists(st.integers(0, 900), min_size=1, max_size=2))
def test_a_run_that_is_tried_again_has_everything_once(seed: int, moments: list[int]) -> None:
    tried(seed, sorted(moments)).finish()


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_so_it_has_while_everything_goes_wrong(seed: int, moment: int) -> None:
    faults = Faults.everything()
    tried(seed, [moment], faults).finish()


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_what_was_done_is_not_done_again(seed: int, moment: int) -> None:
    """But for what is made again because its bytes are gone and somebody needs them."""
    assert not tried(seed, [moment], kind=AtOnce).again
