"""Whatever process dies at whatever moment, every run ends with the same output.

Runs of the chain of examples/thesis-chain are always under way, one with many small units and one with fewer of a
megabyte, and of a long chain of quick uses of one step, which workers execute in rows, while random processes are
killed with SIGKILL at random moments. The supervisor starts them again. The victims and moments come from a seed that
is printed, and can be given in BDW_FED_SEED to see them again (as far as the machine lets itself be repeated);
BDW_FED_KILLS asks for another number.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from federation import Federation
from killing import KINDS, kill_one
from underway import (
    EXAMPLE,
    LARGE,
    ROWS,
    SMALL,
    Load,
    Outputs,
    apply_chain,
    fetched,
    lay_out_chain,
    wanted_of_chain,
)

pytestmark = pytest.mark.fault

KILLS = int(os.environ.get("BDW_FED_KILLS") or 200)
LOAD: dict[str, dict[str, object]] = {SMALL: {"seconds": 0.3}, LARGE: {"pace": 3}, ROWS: {}}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation to be broken, apart from the one that other tests use."""
    directory = tmp_path_factory.mktemp("kills")
    topology = yaml.safe_load((EXAMPLE / "topology.yaml").read_text())
    topology["spec"]["datasets"] = lay_out_chain(directory)
    (directory / "topology.yaml").write_text(yaml.safe_dump(topology))
    started = Federation.start(directory, directory / "topology.yaml")
    try:
        apply_chain(started, directory)
        yield started
    finally:
        started.stop()


def wanted(federation: Federation, workflow: str) -> Outputs:
    """What must come of a run."""
    return wanted_of_chain(federation.topology.parent, workflow)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_process_may_die_once(victim: Federation, kind: str, tmp_path: Path) -> None:
    run = victim.submit(SMALL)
    victim.wait_until_running(run)
    assert kill_one(victim, random.Random(kind), kind)
    victim.call("wait", run)
    assert fetched(victim, run, tmp_path / run) == wanted(victim, SMALL)


def test_two_hundred_kills_at_random_moments_change_nothing(victim: Federation, tmp_path: Path) -> None:
    seed = int(os.environ.get("BDW_FED_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"BDW_FED_SEED={seed}")
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    load = Load(victim, tmp_path, LOAD, partial(wanted, victim))
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
        took = time.monotonic() - began
        print(f"{killed.total()} kills in {took:.0f} s ({counts}), {load.ended.total()} runs the same")
