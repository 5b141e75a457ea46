"""Whatever process dies at whatever moment, every run ends with the same output.

Runs of the chain of examples/thesis-chain are always under way, one with many small units and one with fewer of a
megabyte, and of a long chain of quick uses of one step, which workers execute in rows, while random processes are
killed with SIGKILL at random moments. The supervisor starts them again. The victims and moments come from a seed that
is printed, and can be given in BDW_FED_SEED to see them again (as far as the machine lets itself be repeated);
BDW_FED_KILLS asks for another number.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from federation import HERE, Federation
from killing import KINDS, kill_one

from wire.digests import bytes_digest

EXAMPLE = Path(__file__).parents[2] / "examples" / "thesis-chain"
sys.path.insert(0, str(EXAMPLE))

from prepare import expected, lay_out  # noqa: E402

pytestmark = pytest.mark.fault

KILLS = int(os.environ.get("BDW_FED_KILLS") or 200)
SMALL, LARGE, ROWS = "chain", "chain-shuffle", "chain-rows"
LOAD: dict[str, dict[str, object]] = {
    SMALL: {"seconds": 0.3},
    LARGE: {"pace": 3},
    ROWS: {},
}  # a run of each is under way
NUMBERS = {"edge1": range(100), "edge2": range(100, 150)}  # the small units
ROW = 40  # steps that count
UNITS = 8  # large ones at each edge
RUN_SECONDS = 240.0  # a run that takes longer, killed or not, is taken to hang


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation to be broken, apart from the one that other tests use."""
    directory = tmp_path_factory.mktemp("kills")
    started = Federation.start(directory, prepared(directory))
    try:
        chain = HERE / "federation" / "chain"
        in_rows = directory / "rows.yaml"
        in_rows.write_text(rows_of(ROW))
        started.apply(
            chain / "workflow.yaml", chain / "count.yaml", in_rows, EXAMPLE / "steps.yaml", EXAMPLE / "workflow.yaml"
        )
        yield started
    finally:
        started.stop()


def rows_of(length: int) -> str:
    """A workflow that takes each number through so many uses of one step, at one edge."""
    steps: list[dict[str, object]] = [
        {"name": "c1", "in": {"unit": {"from": "inputs.numbers", "split": {"lines": 1, "header": True}}}}
    ]
    steps += [{"name": f"c{number}", "in": {"unit": f"c{number - 1}.unit"}} for number in range(2, length + 1)]
    steps = [{**step, "use": "chain-count@1", "place": {"clusters": ["edge1"]}} for step in steps]
    steps.append(
        {
            "name": "arrivals",
            "use": "chain-arrivals@1",
            "in": {"units": {"from": f"c{length}.unit", "gather": "all"}},
            "place": {"clusters": ["edge2"]},
        }
    )
    spec = {
        "inputs": {"numbers": {"dataset": "numbers"}},
        "steps": steps,
        "outputs": {"list": {"from": "arrivals.list", "file": "list.txt"}},
    }
    return yaml.safe_dump({"kind": "Workflow", "metadata": {"name": ROWS}, "spec": spec})


def prepared(directory: Path) -> Path:
    """The example's topology with its units, and with the numbers."""
    topology = lay_out(directory, [(1, UNITS)])
    described = yaml.safe_load(topology.read_text())
    [large] = described["spec"]["datasets"]
    large["name"] = "units"
    parts = []
    for edge, numbers in NUMBERS.items():
        path = f"data/{edge}/numbers.csv"
        (directory / path).write_text("number\n" + "".join(f"{number}\n" for number in numbers))
        parts.append({"at": edge, "path": path})
    described["spec"]["datasets"].append({"name": "numbers", "parts": parts})
    topology.write_text(yaml.safe_dump(described))
    return topology


def wanted(federation: Federation, workflow: str) -> Counter[bytes]:
    """The digests of the outputs that a run must have, each as often as it must be there."""
    if workflow in (SMALL, ROWS):
        way = "first second third fourth" if workflow == SMALL else f"{ROW}"
        numbers = sorted(number for some in NUMBERS.values() for number in some)
        return Counter([bytes_digest("".join(f"{number}: {way}\n" for number in numbers).encode())])
    units = federation.topology.parent.glob("data/*/*/*.bin")
    return Counter(bytes_digest(expected(unit.read_bytes(), "shuffle")) for unit in units)


def check(federation: Federation, run: str, workflow: str, directory: Path) -> None:
    got = federation.fetch(run, directory)
    assert Counter(map(bytes_digest, got.values())) == wanted(federation, workflow), f"of {run}"
    shutil.rmtree(directory)


class Load:
    """Runs of the chain that are always under way; the outputs of each are compared when it ends."""

    def __init__(self, federation: Federation, directory: Path) -> None:
        self._federation = federation
        self._directory = directory
        self._waiting: dict[str, tuple[str, subprocess.Popen[str], float]] = {}
        self.ended = 0

    def keep_up(self) -> None:
        """Look after runs that have ended, and submit new ones in their place."""
        self._look()
        for workflow in LOAD.keys() - {workflow for workflow, _, _ in self._waiting.values()}:
            run = self._federation.submit(workflow, **LOAD[workflow])
            self._waiting[run] = (workflow, self._federation.begin("wait", run), time.monotonic() + RUN_SECONDS)

    def finish(self) -> None:
        """Until all have ended."""
        for _, waiting, deadline in list(self._waiting.values()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                waiting.wait(max(0.1, deadline - time.monotonic()))
        self._look()

    def close(self) -> None:
        """Whatever still waits is waited for no more."""
        for _, waiting, _ in self._waiting.values():
            waiting.kill()
            waiting.communicate()

    def _look(self) -> None:
        for run, (workflow, waiting, deadline) in list(self._waiting.items()):
            if waiting.poll() is None:
                assert time.monotonic() < deadline, f"{run} hangs: {self._federation.describe(run)}"
                continue
            said, _ = waiting.communicate()
            del self._waiting[run]
            assert waiting.returncode == 0, f"{run}: {said}\n{self._federation.describe(run)}"
            check(self._federation, run, workflow, self._directory / run)
            self.ended += 1


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_process_may_die_once(victim: Federation, kind: str, tmp_path: Path) -> None:
    run = victim.submit(SMALL)
    victim.wait_until_running(run)
    assert kill_one(victim, random.Random(kind), kind)
    victim.call("wait", run)
    check(victim, run, SMALL, tmp_path / run)


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
