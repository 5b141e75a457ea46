"""Whatever process dies at whatever moment, every run ends with the same output.

Runs of a chain over three clusters are always under way, with more small units than slots, while random processes are
killed with SIGKILL at random moments. The supervisor starts them again. The victims and moments come from a seed that
is printed, and can be given in BDW_FED_SEED to see them again (as far as the machine lets itself be repeated);
BDW_FED_KILLS asks for another number.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import HERE, Federation, lay_out
from killing import KINDS, kill_one

pytestmark = pytest.mark.fault

KILLS = int(os.environ.get("BDW_FED_KILLS") or 200)
RUNS_AT_A_TIME = 2
NUMBERS = 150
RUN_SECONDS = 240.0  # a run that takes longer, killed or not, is taken to hang
EXPECTED = {"list.txt": "".join(f"{number}: first second third fourth\n" for number in range(NUMBERS))}
TOTAL = {"total.txt": f"-{sum(number * number for number in range(NUMBERS))} {NUMBERS} 75\n"}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation to be broken, apart from the one that other tests use."""
    directory = tmp_path_factory.mktemp("kills")
    started = Federation.start(directory, lay_out(directory))
    started.apply(HERE / "federation" / "kills" / "workflow.yaml", HERE / "federation" / "chain" / "workflow.yaml")
    yield started
    started.stop()


class Load:
    """Runs of the chain that are always under way; the outputs of each are compared when it ends."""

    def __init__(self, federation: Federation, directory: Path) -> None:
        self._federation = federation
        self._directory = directory
        self._waiting: dict[str, tuple[subprocess.Popen[str], float]] = {}
        self.ended = 0

    def keep_up(self) -> None:
        """Look after runs that have ended, and submit as many new ones."""
        self._look()
        while len(self._waiting) < RUNS_AT_A_TIME:
            run = self._federation.submit("chain")
            self._waiting[run] = (self._federation.begin("wait", run), time.monotonic() + RUN_SECONDS)

    def finish(self) -> None:
        """Until all have ended."""
        for waiting, deadline in list(self._waiting.values()):
            waiting.wait(max(0.1, deadline - time.monotonic()))
        self._look()

    def close(self) -> None:
        """Whatever still waits is waited for no more."""
        for waiting, _ in self._waiting.values():
            waiting.kill()
            waiting.communicate()

    def _look(self) -> None:
        for run, (waiting, deadline) in list(self._waiting.items()):
            if waiting.poll() is None:
                assert time.monotonic() < deadline, f"{run} hangs: {self._federation.describe(run)}"
                continue
            said, _ = waiting.communicate()
            del self._waiting[run]
            assert waiting.returncode == 0, f"{run}: {said}\n{self._federation.describe(run)}"
            assert self._federation.outputs(run, self._directory / run) == EXPECTED, f"of {run}"
            self.ended += 1


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_process_may_die_once(victim: Federation, kind: str, tmp_path: Path) -> None:
    run = victim.submit("kills")
    victim.wait_until_running(run)
    assert kill_one(victim, random.Random(kind), kind)
    victim.call("wait", run)
    assert victim.outputs(run, tmp_path) == TOTAL


def test_two_hundred_kills_at_random_moments_change_nothing(victim: Federation, tmp_path: Path) -> None:
    seed = int(os.environ.get("BDW_FED_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"BDW_FED_SEED={seed}")
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    load = Load(victim, tmp_path)
    began = time.monotonic()
    try:
        while killed.total() < KILLS:
            load.keep_up()
            threading.Event().wait(chance.uniform(0.0, 2.0))  # the random moment
            kind = chance.choice(KINDS)
            killed[kind] += kill_one(victim, chance, kind)
        load.finish()
    finally:
        load.close()
        counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(killed.items()))
        print(f"{killed.total()} kills in {time.monotonic() - began:.0f} s ({counts}), {load.ended} runs the same")
