"""The flights example end to end: real data, four clusters, and exactly the answer of one pass over all of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from federation import Federation

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
EDGES = {"edge-ewr", "edge-jfk", "edge-lga"}


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """The example's federation, its data prepared, its workflow applied."""
    prepared = subprocess.run(
        [sys.executable, str(EXAMPLE / "prepare.py")], capture_output=True, text=True, timeout=300, check=False
    )
    if prepared.returncode:
        pytest.skip(f"THE FLIGHTS DATA CAN'T BE HAD HERE:\n{prepared.stderr}")
    started = Federation.start(tmp_path_factory.mktemp("flights"), EXAMPLE / "topology.yaml")
    started.apply(EXAMPLE / "steps.yaml", EXAMPLE / "workflow.yaml")
    yield started
    started.stop()


def test_the_report_equals_one_pass_and_only_sums_cross_a_link(flights: Federation, tmp_path: Path) -> None:
    described = flights.run("delays")
    assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
    outputs = flights.outputs(described["run"]["name"], tmp_path)
    one_pass = subprocess.run(
        [sys.executable, str(EXAMPLE / "onepass.py")], capture_output=True, text=True, timeout=300, check=True
    )
    assert outputs["report.csv"] == one_pass.stdout
    assert ElementTree.fromstring(outputs["report.svg"]).tag.endswith("svg")
    crossed = 0
    for cluster, fragment in described["run"]["fragments"].items():
        for traffic in fragment.get("traffic", []):
            assert (cluster, traffic["fromCluster"] in EDGES) == ("cloud", True)
            crossed += int(traffic["bytes"])
    raw = sum(path.stat().st_size for path in (EXAMPLE / "data").glob("edge-*/*.csv"))
    assert 0 < crossed < raw / 100


def test_explain_says_why_the_edge_steps_stay_at_the_edges_and_what_that_saves(flights: Federation) -> None:
    plan: dict[str, Any] = flights.ask("explain", "delays")
    steps = {step["step"]: step for step in plan["steps"]}
    for name in ("clean", "join", "aggregate"):
        assert {share["cluster"] for share in steps[name]["shares"]} == EDGES
        verdicts = {each: verdict for verdict in steps[name]["filtered"] for each in verdict["clusters"]}
        assert set(verdicts) == {"cloud"}
        assert verdicts["cloud"]["filter"] == "tier"
        assert "edge" in verdicts["cloud"]["reason"]
    assert {share["cluster"] for share in steps["merge"]["shares"]} == {"cloud"}
    ship_all = next(other for other in plan["alternatives"] if "cloud" in other["name"])
    raw = sum(path.stat().st_size for path in (EXAMPLE / "data").glob("edge-*/*.csv"))
    assert float(ship_all["bytes"]) == raw
    text = flights.call("explain", "delays")
    assert "tier" in text
    assert "cloud" in text
