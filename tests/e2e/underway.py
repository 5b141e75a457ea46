"""Runs that are always under way while a test breaks something, and what must come of each of them.

The chain of examples/thesis-chain with many small units and with fewer of a megabyte, and a long chain of quick uses of
one step, which workers execute in rows. `Load` submits a new run in place of each that ends, and compares its outputs.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from federation import HERE, Federation

from wire.digests import bytes_digest

EXAMPLE = Path(__file__).parents[2] / "examples" / "thesis-chain"
sys.path.insert(0, str(EXAMPLE))

from prepare import EDGES, expected, make_unit  # noqa: E402

SMALL, LARGE, ROWS = "chain", "chain-shuffle", "chain-rows"
NUMBERS = {"edge1": range(100), "edge2": range(100, 150)}  # the small units
ROW = 40  # steps that count
UNITS = 8  # large ones at each edge
RUN_SECONDS = 240.0  # a run that takes longer, disturbed or not, is taken to hang

Outputs = Counter[bytes]
"""The digests of a run's outputs, each as often as it is there."""


def lay_out_chain(directory: Path) -> list[dict[str, Any]]:
    """The datasets of the chains, whose files are then below `directory`."""
    units = [f"data/{edge}/1mb/{number}.bin" for edge in EDGES for number in range(UNITS)]
    for path in units:
        make_unit(directory / path, 1)
    numbers = {edge: f"data/{edge}/numbers.csv" for edge in NUMBERS}
    for edge, path in numbers.items():
        (directory / path).write_text("number\n" + "".join(f"{number}\n" for number in NUMBERS[edge]))
    return [
        {"name": "units", "parts": [{"at": path.split("/")[1], "path": path, "size": "1MB"} for path in units]},
        {"name": "numbers", "parts": [{"at": edge, "path": path} for edge, path in numbers.items()]},
    ]


def apply_chain(federation: Federation, directory: Path) -> None:
    """Have the federation know the chains."""
    chain = HERE / "federation" / "chain"
    in_rows = directory / "rows.yaml"
    in_rows.write_text(rows_of(ROW))
    federation.apply(
        chain / "workflow.yaml", chain / "count.yaml", in_rows, EXAMPLE / "steps.yaml", EXAMPLE / "workflow.yaml"
    )


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


def wanted_of_chain(directory: Path, workflow: str) -> Outputs:
    """What must come of one of the chains whose files are below `directory`."""
    if workflow in (SMALL, ROWS):
        way = "first second third fourth" if workflow == SMALL else f"{ROW}"
        numbers = sorted(number for some in NUMBERS.values() for number in some)
        return Counter([bytes_digest("".join(f"{number}: {way}\n" for number in numbers).encode())])
    units = directory.glob("data/*/1mb/*.bin")
    return Counter(bytes_digest(expected(unit.read_bytes(), "shuffle")) for unit in units)


def fetched(federation: Federation, run: str, directory: Path) -> Outputs:
    """The outputs of a run; the directory that they are fetched into is gone afterwards."""
    try:
        return Counter(map(bytes_digest, federation.fetch(run, directory).values()))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Load:
    """Runs of some workflows, always one of each; the outputs of each are compared when it ends."""

    def __init__(
        self,
        federation: Federation,
        directory: Path,
        workflows: Mapping[str, Mapping[str, object]],
        wanted: Callable[[str], Outputs],
    ) -> None:
        self._federation, self._directory = federation, directory
        self._workflows, self._wanted = workflows, wanted
        self._waiting: dict[str, tuple[str, subprocess.Popen[str], float]] = {}
        self.ended: Counter[str] = Counter()

    def keep_up(self) -> None:
        """Look after runs that have ended, and submit new ones in their place."""
        self._look()
        for workflow in self._workflows.keys() - {workflow for workflow, _, _ in self._waiting.values()}:
            run = self._federation.submit(workflow, **self._workflows[workflow])
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
            assert fetched(self._federation, run, self._directory / run) == self._wanted(workflow), f"of {run}"
            self.ended[workflow] += 1
