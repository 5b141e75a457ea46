"""The chain of the thesis on a federation that is up: what ran where, and what crossed beside the least that must.

The outputs are compared by their digests with what one process makes of the same units; nothing is fetched for that.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bdw_fed.cli.description import show_failures, step_rows, traffic_rows
from bdw_fed.cli.output import show_table
from bdw_fed.cli.progress import ending, watched
from bdw_fed.cli.quantities import duration, size
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import Document, SyncClient

BODY = "shuffle"
WORKFLOW = f"chain-{BODY}"


def run_chain(client: SyncClient, documents: Sequence[Document], example: Path) -> bool:
    """Apply the documents, run the chain, compare and show. Whether the outputs are right and no unit crossed twice."""
    client.apply(documents)
    began = time.monotonic()
    submitted = client.submit(WORKFLOW).run.name
    print(f"run {submitted} submitted\n", flush=True)
    run = watched(client, submitted)
    took = time.monotonic() - began
    print(f"\n{ending(run)}")
    if run.state != model.RUN_STATE_SUCCEEDED:
        show_failures(run)
        return False
    found = sorted(item.output.unit.digest.hex() for item in client.outputs(run.name))
    wanted, least = _one_pass(example)
    if found != wanted:
        print(f"WRONG: the outputs of {run.name} are not what one process makes of the same units")
        return False
    print(f"right: the {len(found)} outputs equal what one process makes of the same units")
    print(f"\nThe run took {duration(took)}. What ran where:")
    show_table(*step_rows(run, client.explain(run=run.name)))
    print("\nWhat crossed between zones:")
    show_table(["FROM", "TO", ">UNITS", ">BYTES", ">SECONDS"], traffic_rows(run))
    return _weighed(crossed(run), least)


def crossed(run: model.Run) -> int:
    """Bytes that a run has moved between clusters."""
    return sum(link.bytes for fragment in run.fragments.values() for link in fragment.traffic)


def _weighed(found: int, least: int) -> bool:
    if found > least:
        print(f"\nMORE THAN NEEDED: {size(found)} crossed, and {size(least)} would have done: each unit once\n")
        return False
    words = "the least that must" if found == least else f"of {size(least)}: the rest was there from an earlier run"
    print(f"\n{size(found)} crossed in all, {words}\n")
    return True


def _one_pass(example: Path) -> tuple[list[str], int]:
    """The digests that the outputs should have, sorted, and the bytes that have to cross to the cloud."""
    words = [sys.executable, str(example / "onepass.py"), BODY]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [line.split() for line in lines]
    return sorted(digest for digest, _ in pairs), sum(int(count) for _, count in pairs)
