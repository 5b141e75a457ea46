"""Whenever nothing happens any more, each run has ended, or one of them is found to stand still, and fails with words.

Clusters know of each other what they say of themselves. Here that is asked at once, and not a minute later: is there a
cluster that would find a run stuck at its next look, now that nothing but timers is left?
"""

from __future__ import annotations

from random import Random
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.book import Book, Policy
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.space import resting, stuck
from tests.coordinator.federation import Faults, Federation
from tests.coordinator.workflows import EACH, GATHER, Use, output, source, split
from tests.properties.graphs import Parts, random_dag, random_shapes
from tests.settings import examples

few = settings(max_examples=examples(4))
PATIENT = Policy(stuck_after=1e9)  # no look is due before all else was tried
NAMES = ("edge1", "cloud", "edge2")
SIZES = (100, 300, 1_000, 1_500)
QUOTAS = (700, 1_500, 2_000, 3_000, 4_000, 6_000, 9_000)
STEPS = 60_000
CALM = 1_500  # steps in which nothing was done, and
LONG = 300.0  # seconds: batches, withdrawn offers and tries of others take no longer


def federation(random: Random) -> Federation:
    """Runs with too little room for all that they make, on one to three clusters on which things go wrong or not."""
    names = NAMES[: random.choice((1, 2, 2, 2, 3, 3))]
    clusters = {name: {f"n{n}": random.choice((1.0, 2.0)) for n in range(random.choice((1, 1, 2)))} for name in names}
    faults = Faults(
        attempt_fails=0.03,
        crash=0.02,
        node_restart=0.02,
        node_loses_store=0.5,
        stream_breaks=0.02,
        repeats=0.1,
        cut=0.01,
    )
    chosen = faults if random.random() < 0.7 else Faults()
    made = Federation(Random(random.random()), clusters, chosen, policy=PATIENT, replay_checks=0.0)
    made.undialled = {(one, other) for one in names for other in names if one < other and random.random() < 0.4}
    for agent in made.agents.values():
        for node in agent.nodes.values():
            node.cuts = True
    which = random.choice(("run", "namespace", "both"))
    if which != "namespace":
        made.run_policy = model_pb2.Policy(quota=random.choice(QUOTAS))
    if which != "run":
        made.quotas = {"default": random.choice(QUOTAS)}
    draw = random.choice((chain, chain, random_dag, random_shapes))
    steps, parts = draw(random, names)
    for step in steps:
        step.attempts = 50
        made.sizes[step.name] = random.choice(SIZES)
        if step.kind == "split":
            made.units_in[step.name] = random.choice((2, 3, 5, 12))
    made.introduce()
    for number in range(random.choice((1, 1, 2, 3))):
        made.submit(steps, parts, run=f"run-{number + 1}")
    return made


def chain(random: Random, clusters: tuple[str, ...]) -> tuple[list[Use], Parts]:
    def some() -> list[str]:
        return random.sample(clusters, random.randint(1, len(clusters)))

    data = source("data", some())
    steps = [data, split(data)]
    for number in range(random.randint(1, 3)):
        steps.append(Use(f"each{number}", some(), {"rows": (f"{steps[-1].name}.out", EACH)}))
    if random.random() < 0.5:
        steps.append(Use("report", [random.choice(clusters)], {"parts": (f"{steps[-1].name}.out", GATHER)}))
    return [*steps, output(steps[-1])], {data.name: {name: random.randint(1, 2) for name in data.executors}}


def what_was_done(made: Federation) -> list[object]:
    lives = (live for agent in made.agents.values() for live in agent.core._book.lives.values())
    return [(live.going, stuck._done(live)[:3], len(live.run.units), live.stored) for live in lives]


def is_found(made: Federation) -> bool:
    """Whether a run is found to stand still on any cluster, if each knows now what the others have to say."""
    books = {cluster: agent.core._book for cluster, agent in made.agents.items()}

    def rests(book: Book, key: RunKey) -> bool:
        live = book.lives.get(key)
        if live is None or not live.going:
            return live is not None and live.run.state == model_pb2.FRAGMENT_STATE_SUCCEEDED
        return resting.concerns(book, live) and stuck._rests(book, live)

    def others(book: Book, live: LiveRun) -> set[str]:
        return {name for name in live.graph.epochs if name != book.cluster and rests(books[name], live.key)}

    with mock.patch.object(resting, "others", others):
        return any(
            live.still is not None and stuck._waits(live) and stuck._is_stuck(book, live)
            for book in books.values()
            for live in book.lives.going.values()
        )


@few
@given(st.integers(0, 2**32))
@example(16)
def test_a_run_ends_or_is_found_to_stand_still(seed: int) -> None:
    made = federation(Random(seed))
    before: list[object] = []
    since, at, found = 0, made.now, False

    def is_over() -> bool:
        nonlocal before, since, at, found
        if made.steps_taken % 50 and made.steps_taken - since < CALM:
            return False
        if (done := what_was_done(made)) != before:
            before, since, at = done, made.steps_taken, made.now
        if made.steps_taken - since < CALM or made.moves() or made.cut:
            return False
        found = is_found(made)
        return found or made.now > at + LONG

    made.run(until=is_over, most=STEPS)
    over = not any(agent.core._book.lives.going for agent in made.agents.values())
    assert over or found, f"nothing moves, and nobody finds that: {made.story()}"
