"""The demo: one example from nothing to its result, and what the federation made of it.

It goes the way a user would: up, apply, submit, watch, outputs, down; then tells what ran where, what crossed each
link, and what would have crossed if all raw data had been shipped to the cloud.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bdw_fed.cli.description import show_failures, step_rows, traffic_rows
from bdw_fed.cli.exits import NEGATIVE, OK, RefusedError, UsageError
from bdw_fed.cli.explanation import alternative_rows
from bdw_fed.cli.files import read_documents
from bdw_fed.cli.output import show_table
from bdw_fed.cli.progress import ending, watched
from bdw_fed.cli.quantities import duration, size
from bdw_fed.embedded import control
from bdw_fed.embedded.errors import EmbeddedError
from bdw_fed.embedded.layout import FILE as LAYOUT_FILE
from bdw_fed.embedded.topologies import choose
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import Document, SyncClient

WORKFLOW = "delays"
REPORT = "report.csv"


def demonstrate(example: Path, to: Path, state: Path, *, keep: bool) -> int:
    """Run the example in `example`; results go to `to`. Returns the exit code."""
    topology = example / "topology.yaml"
    if not topology.is_file():
        raise UsageError(f"{topology}: no such file; run this in the repository, or name the example with --example")
    if not list(example.glob("data/*/*.csv")):
        raise UsageError(f"{example}/data: the data is not there yet; run: python {example}/prepare.py")
    _fresh(state)
    try:
        started = control.start(state, lambda: choose(topology, None), settle=control.apply_and_settle)
    except EmbeddedError as error:
        raise RefusedError(str(error)) from error
    _say(f"up: {len(started.layout.processes)} processes in {duration(started.seconds)}, state in {state}")
    try:
        good = _run(example, to, state)
    finally:
        if keep:
            _say(f"the federation stays up; look around with --state {state}, then: bdw-fed down --state {state}")
        else:
            _say(f"down in {duration(control.stop(state))}")
    return OK if good else NEGATIVE


def _fresh(state: Path) -> None:
    """Stop and remove what an earlier demo has left. UsageError for a directory that is not a demo's."""
    if control.look(state) is not None:
        control.stop(state)
    if not state.exists():
        return
    if any(state.iterdir()) and not ((state / LAYOUT_FILE).exists() or (state / "logs").is_dir()):
        raise UsageError(f"{state} exists and is not a federation's state; name another directory with --state")
    shutil.rmtree(state)


def _run(example: Path, to: Path, state: Path) -> bool:
    """Apply, run, fetch and compare; whether all is as it should be."""
    from bdw_fed.client import SyncClient

    with SyncClient(state=state) as client:
        return run_example(client, read_documents([str(example)], client.profile.data_root), example, to)


def run_example(client: SyncClient, documents: Sequence[Document], example: Path, to: Path) -> bool:
    """Apply the documents, run the example's workflow, fetch its results into `to`, compare and show them.

    Returns whether all is as it should be.
    """
    began = time.monotonic()
    applied = client.apply(documents)
    _say(f"applied {len(applied)} definitions in {duration(time.monotonic() - began)}")
    began = time.monotonic()
    response = client.submit(WORKFLOW)
    _say(f"run {response.run.name} submitted\n")
    run = watched(client, response.run.name)
    took = time.monotonic() - began
    _say(f"\n{ending(run)}")
    if run.state != model.RUN_STATE_SUCCEEDED:
        show_failures(run)
        return False
    saved = client.download(run.name, to)
    good = _compare(example, to / REPORT)
    _show(client, run, to, [item.path for item in saved], took)
    return good


def _compare(example: Path, report: Path) -> bool:
    """Whether the report is, byte for byte, the one that a single pass over all data gives."""
    began = time.monotonic()
    one_pass = subprocess.run([sys.executable, str(example / "onepass.py")], capture_output=True, check=False)
    took = time.monotonic() - began
    if one_pass.returncode != 0:
        _say(f"{example}/onepass.py failed:\n{one_pass.stderr.decode(errors='replace')}")
        return False
    if one_pass.stdout != report.read_bytes():
        expected = report.with_name("expected.csv")
        expected.write_bytes(one_pass.stdout)
        _say(f"WRONG: {report} differs from what one pass gives, which is in {expected}")
        return False
    _say(f"right: {report.name} equals what one pass over all data gives (that takes {duration(took)} in one process)")
    return True


def _show(client: SyncClient, run: model.Run, to: Path, saved: list[Path], took: float) -> None:
    """The report, and what the federation made of the run."""
    plan = client.explain(run=run.name)
    with (to / REPORT).open(newline="") as file:
        columns, *rows = list(csv.reader(file))
    print()
    show_table([columns[0], columns[1], *(f">{column}" for column in columns[2:])], rows)
    for path in saved:
        print(f"\nsaved {path} ({size(path.stat().st_size)})", end="")
    print(f"\n\nThe run took {duration(took)}. What ran where:")
    show_table(*step_rows(run, plan))
    print("\nWhat crossed between clusters:")
    crossed = traffic_rows(run)
    show_table(["FROM", "TO", ">UNITS", ">BYTES", ">SECONDS"], crossed or [["-", "-", "0", size(0), "0.0"]])
    total = sum(link.bytes for fragment in run.fragments.values() for link in fragment.traffic)
    print(f"\n{size(total)} crossed in all. With what this run has measured, a plan now, and what it is held against:")
    learned = client.explain(workflow=run.workflow)
    columns, plans = alternative_rows(learned)
    show_table(columns, [["this run, as it was", size(total), f"{took:.1f}", "-"], *plans])
    for alternative in learned.alternatives:
        if alternative.transfers:
            print(f"\n{alternative.name} would have meant:")
            show_table(["FROM", "TO", ">BYTES"], _added(alternative))
    print()


def _added(alternative: model.Alternative) -> list[list[str]]:
    """The transfers of an alternative added up for each pair of clusters."""
    sums: dict[tuple[str, str], float] = {}
    for item in alternative.transfers:
        pair = (item.from_cluster, item.to_cluster)
        sums[pair] = sums.get(pair, 0.0) + item.bytes
    return [[source, target, size(count)] for (source, target), count in sorted(sums.items())]


def _say(line: str) -> None:
    print(line, flush=True)
