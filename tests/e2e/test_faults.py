"""Whatever the network does and whatever process dies, every run ends with the same output.

A federation in places of their own: runs of the thesis's chain and of the flights are always under way while links are
cut, deaf on one side, lossy, narrow, for small packets only, pulled out, or end all their connections, for a tenth of a
second or for twenty, several at a time; and processes are killed or stand still meanwhile. What happens when to whom
comes from a seed that is printed, and can be given in BDW_FED_SEED to see the same again (as far as the machine lets
itself be repeated); BDW_FED_FAULTS asks for another number.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from federation import Federation
from leftovers import await_stored
from places import lacking
from scattered import PATIENCE, PLACES, Scattered, scattered
from underway import LARGE, SMALL, UNITS, Load, Outputs, apply_chain, fetched, lay_out_chain, wanted_of_chain

pytestmark = pytest.mark.fault

FAULTS = int(os.environ.get("BDW_FED_FAULTS") or 60)
PAUSE = 2.0  # seconds from one fault to the next, at most
SHORTEST, LONGEST = 0.1, 20.0  # seconds of a fault
FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
DELAYS = "delays"
AIRPORTS = {"ewr": "edge1", "jfk": "edge2", "lga": "edge2"}
LOAD: dict[str, dict[str, object]] = {SMALL: {"seconds": 0.2}, LARGE: {"pace": 1}, DELAYS: {}}


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scattered]:
    """The federation, which knows the chains and the flights."""
    if reason := lacking():
        pytest.skip(f"NO NETWORK OF OUR OWN CAN BE MADE HERE, SO NOTHING HAS BEEN TRIED: {reason}")
    directory = tmp_path_factory.mktemp("far")
    with scattered(directory, [*lay_out_chain(directory), *lay_out_flights(directory)]) as started:
        apply_chain(started.federation, directory)
        started.federation.apply(FLIGHTS / "steps.yaml", FLIGHTS / "workflow.yaml")
        yield started


def lay_out_flights(directory: Path) -> list[dict[str, Any]]:
    """The datasets of the flights, below `directory`."""
    prepared = subprocess.run(
        [sys.executable, str(FLIGHTS / "prepare.py")], capture_output=True, text=True, timeout=300, check=False
    )
    if prepared.returncode:
        pytest.skip(f"THE FLIGHTS DATA CAN'T BE HAD HERE:\n{prepared.stderr}")
    datasets = []
    for name in ("flights", "weather"):
        parts = []
        for airport, cluster in AIRPORTS.items():
            path = f"flights/edge-{airport}/{name}.csv"
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(FLIGHTS / "data" / f"edge-{airport}" / f"{name}.csv", directory / path)
            parts.append({"at": cluster, "path": path})
        datasets.append({"name": name, "parts": parts})
    return datasets


@pytest.fixture(scope="module")
def calm(far: Scattered, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outputs]:
    """What comes of each workflow when nothing is broken: of the flights what one pass over them gives."""
    directory = tmp_path_factory.mktemp("calm")
    found = {workflow: wanted_of_chain(far.federation.topology.parent, workflow) for workflow in (SMALL, LARGE)}
    run = far.federation.submit(DELAYS)
    far.federation.call("wait", run)
    one_pass = subprocess.run(
        [sys.executable, str(FLIGHTS / "onepass.py"), "--data", str(far.federation.topology.parent / "flights")],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert far.federation.outputs(run, directory / "seen")["report.csv"] == one_pass.stdout
    found[DELAYS] = fetched(far.federation, run, directory / "counted")
    return found


def states(desk: Federation) -> dict[str, str]:
    """The clusters as the hub sees them."""
    return {cluster["name"]: cluster["state"] for cluster in desk.ask("status", expect=(0, 1))["clusters"]}


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}"
        threading.Event().wait(0.2)


class Faults:
    """What may happen, chosen by chance."""

    def __init__(self, far: Scattered, chance: random.Random) -> None:
        self._network, self._daemons, self._chance = far.network, far.daemons, chance
        self._kinds: dict[str, tuple[int, Callable[[], AbstractContextManager[object]]]] = {
            "cut": (4, lambda: self._network.cut(*self._pair())),
            "deaf": (4, lambda: self._network.deaf(*self._pair())),
            "lossy": (4, lambda: self._network.lossy(*self._pair(), chance.uniform(0.05, 0.5))),
            "small only": (2, lambda: self._network.small_only(*self._pair())),
            "refusing": (2, lambda: self._network.refusing(*self._pair())),
            "reset": (4, lambda: nullcontext(self._network.reset(*chance.choices(PLACES, k=2)))),  # also within one
            "down": (3, lambda: self._network.down(chance.choice(PLACES))),
            "narrow": (3, lambda: self._network.narrow(chance.choice(PLACES), 2 ** chance.uniform(0, 6))),
            "killed": (4, lambda: nullcontext(self._kill_one())),
            "frozen": (3, lambda: chance.choice(self._daemons).frozen()),
        }

    def next(self) -> tuple[str, AbstractContextManager[object], float]:
        """What happens next, as a context in which it does, and for how many seconds."""
        kinds, weights = zip(*((kind, weight) for kind, (weight, _) in self._kinds.items()), strict=True)
        (kind,) = self._chance.choices(kinds, weights)
        seconds = SHORTEST * (LONGEST / SHORTEST) ** self._chance.random()
        return kind, self._kinds[kind][1](), seconds

    def _kill_one(self) -> bool:
        in_turn = self._chance.sample(self._daemons, len(self._daemons))
        return any(daemon.signal(signal.SIGKILL) for daemon in in_turn)  # one may just be on its way back

    def _pair(self) -> tuple[str, str]:
        one, other = self._chance.sample(PLACES, 2)
        return one, other


def test_an_edge_cut_off_from_its_hub_goes_on_with_the_flights_and_answers_for_itself(
    far: Scattered, calm: dict[str, Outputs], tmp_path: Path
) -> None:
    desk, edge = far.federation, far.at("edge1")
    agent = f"edge1@{far.network.address('edge1')}:7445"

    def begun() -> bool:
        steps = desk.describe(run)["run"].get("fragments", {}).get("edge1", {}).get("steps", [])
        return any(int(step.get("done", 0)) for step in steps)

    run = desk.submit(DELAYS)
    until(begun, "edge1 has begun with the flights")
    with far.network.cut("edge1", "hub1"), far.network.cut("edge1", "hub2"):
        edge.call("watch", run, "--agent", agent)
        (told,) = (each for each in edge.ask("get", "runs", "--agent", agent) if each["name"] == run)
        assert told["state"] == "RUN_STATE_SUCCEEDED", "edge1 has done its part"
        assert "fragment.ended" in edge.call("events", run, "--agent", agent)
        assert "hub" in edge.call("status", expect=(4,))
        until(lambda: states(desk)["edge1"] == "unknown", "the hub knows that it has not heard of edge1 for long")
        assert desk.describe(run)["run"]["state"] == "RUN_STATE_RUNNING"
    desk.call("wait", run)
    assert fetched(desk, run, tmp_path / run) == calm[DELAYS]
    until(lambda: states(desk)["edge1"] == "ready", "the hub hears edge1 again")


def test_random_faults_of_the_network_and_of_processes_change_nothing(
    far: Scattered, calm: dict[str, Outputs], tmp_path: Path
) -> None:
    seed = int(os.environ.get("BDW_FED_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"BDW_FED_SEED={seed}")
    chance = random.Random(seed)
    faults = Faults(far, chance)
    happened: Counter[str] = Counter()
    load = Load(far.federation, tmp_path, LOAD, calm.__getitem__)
    over = threading.Event()
    began = disturbed = time.monotonic()

    def keep_up() -> None:
        while not over.wait(0.2):
            load.keep_up()

    def suffer(fault: AbstractContextManager[object], seconds: float) -> None:
        with fault:
            over.wait(seconds)

    with ThreadPoolExecutor(max_workers=64) as threads:
        under_way: list[Future[None]] = [threads.submit(keep_up)]
        try:
            while happened.total() < FAULTS and not any(each.done() and each.exception() for each in under_way):
                over.wait(chance.uniform(0.0, PAUSE))  # the random moment
                kind, fault, seconds = faults.next()
                happened[kind] += 1
                under_way.append(threads.submit(suffer, fault, seconds))
            over.set()
            disturbed = time.monotonic() - began
            for each in under_way:
                each.result()
            load.finish()
        finally:
            over.set()
            load.close()
        counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(happened.items()))
        runs = ", ".join(f"{count} of {workflow}" for workflow, count in sorted(load.ended.items()))
        after = time.monotonic() - began - disturbed
        print(f"{happened.total()} faults in {disturbed:.0f} s, {after:.0f} s to the end of all runs: {counts}")
        print(f"the same outputs: {runs}")
    assert set(load.ended) == set(LOAD)
    until(lambda: set(states(far.federation).values()) == {"ready"}, "all clusters are heard again")
    outputs = {"units": 2 * UNITS * load.ended[LARGE], "content": 2 * UNITS}  # the others are too small for a file
    await_stored(far.federation, Counter({f"node-cloud1-n1: files in {kind}": n for kind, n in outputs.items()}))
