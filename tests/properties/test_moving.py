"""Units that move from cluster to cluster as load comes and goes are consumed once, and their steps are closed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from cluster_agent.coordinator.clusters.records import Spilled
from tests.coordinator.desk import Desk
from tests.coordinator.federation import Faults
from tests.coordinator.workflows import EACH, GATHER, Use, output, source
from tests.properties.graphs import Parts
from tests.properties.worlds import World
from tests.routing.test_routing import news
from tests.settings import few

SMALL = {name: {"n1": 1.0} for name in ("edge1", "edge2", "cloud")}


def grown(random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
    """More units than slots, at one cluster, for steps that any may execute."""
    data = source("data", [random.choice(list(clusters))])
    steps = [data]
    for number in range(2):
        anywhere = random.sample(list(clusters), len(clusters))
        counter = random.choice(list(clusters))
        steps.append(Use(f"free{number}", anywhere, {"rows": (f"{steps[-1].name}.out", EACH)}, counter=counter))
    gather = Use("gather", [random.choice(list(clusters))], {"rows": ("free1.out", GATHER)})
    return [*steps, gather, output(gather)], {data.name: {data.executors[0]: random.randint(4, 12)}}


def moving(seed: int, faults: Faults) -> World:
    world = World(seed, faults, clusters=SMALL, grow=grown, audited=0.2)
    world.rumours = 0.3
    world.run()
    world.check_succeeded()
    return world


@few
@given(st.integers(0, 2**32))
def test_steps_close_however_units_move(seed: int) -> None:
    moving(seed, Faults(repeats=0.1))


@few
@given(st.integers(0, 2**32))
def test_steps_close_however_units_move_while_everything_goes_wrong(seed: int) -> None:
    moving(seed, Faults.everything())


@few
@given(st.integers(0, 2**32))
@example(17000001)  # a unit that is passed on is held once: the cluster that has sent it waits for whoever gets it
def test_the_books_add_up_when_clusters_must_not_begin_what_they_were_sent(seed: int) -> None:
    faults = {"attempt_fails": 0.05, "crash": 0.03, "node_restart": 0.02, "stream_breaks": 0.02, "repeats": 0.1}
    moving(seed, Faults(**faults, cut=0.02, taint=0.02))


def test_a_cluster_reports_when_the_last_unit_that_waits_for_it_goes_elsewhere() -> None:
    work = Use("work", ["edge1", "edge2"], {"rows": ("inputs.units.out", EACH)}, counter="edge2")
    steps = [source("units", ["edge1"]), work, output(work)]
    desk = Desk(steps, {"inputs.units": {"edge1": 2}}, clusters=["edge1", "edge2"], cpus=1)
    desk.do(news("edge2", wanted=50))
    [task] = desk.do(desk.part("inputs.units", 0), desk.part("inputs.units", 1)).starts
    said = desk.do(desk.result(task), news("edge2", wanted=0, number=2))
    assert said.recorded(Spilled)
    assert [message.report.step for _, message in said.to_peers("report")] == ["work"]
