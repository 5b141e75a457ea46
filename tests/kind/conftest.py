"""One environment of kind clusters for all tests marked kind: made once, and deleted at the end.

With BDW_FED_KIND_STATE it is the one in that directory, which is made if it is not there and stays, for those who work
on it. The node image is the one that BDW_FED_KIND_IMAGE names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from federation import Federation
from kind_clusters import EXAMPLE, Clusters, missing


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """edge1, edge2 and cloud1 with the federation on them and the data of the flights example."""
    if lacking := missing():
        pytest.skip(f"NOTHING WAS TRIED ON KUBERNETES: {lacking}")
    prepared = subprocess.run(
        [sys.executable, str(EXAMPLE / "prepare.py")], capture_output=True, text=True, timeout=300, check=False
    )
    if prepared.returncode:
        pytest.skip(f"THE FLIGHTS DATA CAN'T BE HAD HERE:\n{prepared.stderr}")
    kept = os.environ.get("BDW_FED_KIND_STATE")
    state = Path(kept) if kept else tmp_path_factory.mktemp("kind")
    made = Clusters(Federation(state, state), state)
    try:
        made.kind("up", "--no-example")
        made.federation.apply(
            EXAMPLE / "steps.yaml", EXAMPLE / "workflow.yaml", Path(__file__).parent / "crossing" / "workflow.yaml"
        )
        yield made
    finally:
        if not kept:
            made.kind("down")
