"""A day with bursts, lived through in virtual time: nobody waits long, nothing swings, nothing is left."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import pytest

from cluster_agent.pools.core import Limits
from simulator.pools import Day, Step, bursts

IDLE = 60.0
LIMITS = Limits(0, 0, IDLE, 1.0, 0)


def lived(start: float, services: tuple[float, float], *, busy: float, limits: Limits = LIMITS, seed: int = 1) -> Day:
    steps = [Step("clean", services[0], limits), Step("join", services[1], limits)]
    day = Day(steps, nodes=4, cpus=8, start=start, prior=start, seed=seed)
    day.run(bursts(hours=24, quiet=0.001, busy=busy, every=9600, size=60, seed=seed + 1))
    return day


@pytest.fixture(scope="module", params=["process", "kubernetes", pytest.param("short", marks=pytest.mark.slow)])
def day(request: pytest.FixtureRequest) -> Day:
    """Workers that start in 0.1 s or in 5 s; tasks longer and shorter than that."""
    if request.param == "process":
        return lived(0.1, (2.0, 0.05), busy=0.015)
    if request.param == "kubernetes":
        return lived(5.0, (20.0, 5.0), busy=0.05)
    return lived(5.0, (1.0, 0.1), busy=0.04)


def test_no_unit_waits_longer_than_a_start_and_one_task_when_there_is_room(day: Day) -> None:
    assert any(waited.room for waited in day.waits)
    for waited in day.waits:
        if waited.room:
            longest = day.longest_start + day.longest_task(waited.step)
            assert waited.began - waited.came <= longest, waited


def test_no_worker_is_started_soon_after_one_was_stopped_unless_there_is_more_to_do_than_before(day: Day) -> None:
    """Soon: within the pool's idle time of the last stop. Before: in the idle time before that stop.

    More: units at the step, or with those that are on their way to it.
    """
    for step, demands in day.demands.items():
        times = [at for at, _, _ in demands]
        stops = [at for name, at in day.stops if name == step]
        for started in (at for name, at in day.starts if name == step):
            stopped = max((at for at in stops if started - IDLE < at <= started), default=None)
            if stopped is not None:
                _, here, coming = demands[bisect_right(times, started) - 1]
                before = demands[bisect_left(times, stopped - IDLE) : bisect_left(times, stopped)]
                more_here = here > max((one for _, one, _ in before), default=0)
                more_coming = coming > max((one for _, _, one in before), default=0)
                assert more_here or more_coming, (step, started, stopped)


def test_at_the_end_nothing_is_left(day: Day) -> None:
    assert day.workers() == 0
    assert len(day.starts) == len(day.stops) > 0


def test_every_unit_passed_every_step(day: Day) -> None:
    assert len({waited.step for waited in day.waits}) == 2
    assert sum(waited.step == "clean" for waited in day.waits) == sum(waited.step == "join" for waited in day.waits)


def test_most_units_find_a_worker_of_the_next_step_waiting(day: Day) -> None:
    """What will come is seen along the chain, so its workers start while its producers run."""
    waits = [waited.began - waited.came for waited in day.waits if waited.step == "join"]
    assert sum(waits) / len(waits) < 0.2 * day.longest_start


def test_a_demand_that_stays_changes_nothing() -> None:
    """Once as many workers are there as it needs, none is started and none stopped while it goes on."""
    for start, service, every in ((5.0, 20.0, 4.0), (5.0, 0.5, 0.4), (0.1, 1.0, 0.4), (0.1, 0.01, 0.1)):
        day = Day([Step("clean", service, LIMITS)], nodes=2, cpus=8, start=start, prior=start, seed=3)
        day.run(number * every for number in range(int(600 / every)))
        assert [at for _, at in day.starts if 200.0 < at < 600.0] == [], (start, service)
        assert [at for _, at in day.stops if 200.0 < at < 600.0] == [], (start, service)


def test_work_that_is_over_before_a_worker_is_up_starts_none() -> None:
    """A burst of 200 tasks of 10 ms: the one warm worker is through with them in 2 s, another would be up in 5."""
    day = Day([Step("clean", 0.01, LIMITS)], nodes=1, cpus=16, start=5.0, prior=5.0, seed=3)
    day.run([*(number * 10.0 for number in range(7)), *[65.0] * 200])
    assert len(day.starts) == 1


def test_a_pool_grows_in_the_steps_that_it_is_told() -> None:
    limits = Limits(0, 0, IDLE, 1.0, 0, step=2, pause=10.0)
    day = Day([Step("clean", 30.0, limits)], nodes=1, cpus=16, start=1.0, prior=1.0, seed=3)
    day.run([0.0] * 16)
    times = sorted(at for _, at in day.starts)
    assert all(later - earlier >= 10.0 for earlier, later in zip(times, times[2:], strict=False))
    assert len(times) > 4
