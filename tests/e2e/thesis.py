"""The chain of the thesis as tests use it: what must come of its units, and what a run's events tell of their ways."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from blake3 import blake3
from federation import Federation

from bdw_fed import SyncClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "thesis-chain"
sys.path.insert(0, str(EXAMPLE))

from accounts import Account, account  # noqa: E402
from prepare import EDGES, dataset_name, expected, lay_out, make_unit  # noqa: E402

__all__ = ["EDGES", "EXAMPLE", "check_outputs", "dataset_name", "lay_out", "make_unit", "told"]


def told(chain: Federation, run: str) -> Account:
    """The account of a run that has succeeded."""
    with SyncClient(state=chain.state) as client:
        return account(client.get_run(run), list(client.events(run)))


def check_outputs(chain: Federation, run: str, units: int, body: str) -> None:
    """All outputs, and no others, are what one process makes of so many units of 1 MB at each edge."""
    data = chain.topology.parent / "data"
    wanted = Counter(
        blake3(expected((data / edge / dataset_name(1, units) / f"{number}.bin").read_bytes(), body)).digest()
        for edge in EDGES
        for number in range(units)
    )
    with SyncClient(state=chain.state) as client:
        assert Counter(located.output.unit.digest for located in client.outputs(run)) == wanted
