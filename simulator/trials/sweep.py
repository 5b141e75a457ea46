"""Many seeds, over several processes: which of them go wrong, and what it took."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace

from simulator.trials.drawing import scenario_of
from simulator.trials.scenario import Scenario
from simulator.trials.trial import Verdict, tried

_CHUNK = 8


@dataclass(frozen=True)
class Tried:
    """One seed: how its trial came out, and the seconds of processor time that it took."""

    seed: int
    verdict: Verdict
    cpu_seconds: float


def sweep(
    first: int, count: int, *, processes: int, scenario: Scenario | None = None, stop_after: int = 1
) -> Iterator[Tried]:
    """Try so many seeds from the first on, as they end; no further ones once so many have gone wrong (0 = go on).

    With a scenario, its own seed is the first, and the others vary what is drawn in it: delays, jitter, losses.
    """
    chunks = [range(at, min(at + _CHUNK, first + count)) for at in range(first, first + count, _CHUNK)]
    if processes == 1:
        yield from _in_turn(chunks, scenario, stop_after)
        return
    wrong = 0
    waiting = iter(chunks)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[list[Tried]]] = set()
        try:
            while True:
                while len(running) < 2 * processes and not (stop_after and wrong >= stop_after):
                    chunk = next(waiting, None)
                    if chunk is None:
                        break
                    running.add(pool.submit(_try_all, chunk, scenario))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    for tried_one in future.result():
                        wrong += bool(tried_one.verdict.violations)
                        yield tried_one
        finally:
            for future in running:
                future.cancel()


def _in_turn(chunks: list[range], scenario: Scenario | None, stop_after: int) -> Iterator[Tried]:
    wrong = 0
    for chunk in chunks:
        for seed in chunk:
            (one,) = _try_all(range(seed, seed + 1), scenario)
            yield one
            wrong += bool(one.verdict.violations)
            if stop_after and wrong >= stop_after:
                return


def _try_all(seeds: range, scenario: Scenario | None) -> list[Tried]:
    found = []
    for seed in seeds:
        began = time.process_time()
        one = scenario_of(seed) if scenario is None else replace(scenario, seed=seed)
        verdict = tried(one)
        found.append(Tried(seed, verdict, time.process_time() - began))
    return found
