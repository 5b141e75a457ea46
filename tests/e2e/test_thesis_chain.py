"""The chain over two edges and a cloud: right outputs, each unit across once, without the hub, without an edge."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from federation import Federation
from killing import stopped
from thesis import EDGES, EXAMPLE, check_outputs, dataset_name, lay_out, told

from bdw_fed.v1.federation_pb2 import SessionRequest

pytestmark = pytest.mark.slow

FEW, MANY = 2, 14


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thesis")


@pytest.fixture(scope="module")
def chain(place: Path) -> Iterator[Federation]:
    """The example's federation with a few units and with many."""
    topology = lay_out(place, [(1, FEW), (1, MANY)])
    started = Federation.start(place, topology)
    try:
        started.apply(EXAMPLE / "steps.yaml")
        yield started
    finally:
        started.stop()


def apply_chain(chain: Federation, body: str, units: int, prefer: str, *, pace: float = 0.02) -> str:
    documents = yaml.safe_load_all((EXAMPLE / "workflow.yaml").read_text())
    document = next(each for each in documents if each["metadata"]["name"] == f"chain-{body}")
    name = document["metadata"]["name"] = f"{body}-{units}-{prefer}-{round(pace * 100)}"
    document["spec"]["inputs"]["units"]["dataset"] = dataset_name(1, units)
    document["spec"]["parameters"]["pace"]["default"] = pace
    for step in document["spec"]["steps"]:
        step["place"] = {**step.get("place", {}), "prefer": prefer}
    file = chain.topology.parent / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document))
    chain.apply(file)
    return name


def run(chain: Federation, workflow: str) -> str:
    described: dict[str, Any] = chain.run(workflow)
    assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
    return str(described["run"]["name"])


@pytest.mark.parametrize("body", ["echo", "shuffle"])
def test_with_room_everywhere_each_unit_crosses_once(chain: Federation, body: str) -> None:
    name = run(chain, apply_chain(chain, body, FEW, "finish"))
    check_outputs(chain, name, FEW, body)
    seen = told(chain, name)
    assert seen.crossed == seen.least
    assert seen.pulls["cross zone"] == 2 * FEW
    assert seen.twice == []


@pytest.mark.parametrize("prefer", ["finish", "distance", "spread"])
def test_whatever_is_preferred_nothing_is_lost_and_what_moves_says_why(chain: Federation, prefer: str) -> None:
    name = run(chain, apply_chain(chain, "shuffle", MANY, prefer))
    check_outputs(chain, name, MANY, "shuffle")
    seen = told(chain, name)
    assert seen.crossed >= seen.least
    assert seen.crossed == seen.least + sum(move.excess for move in seen.twice), "each excess has its reason told"


def test_the_hub_is_not_asked_once_after_the_fragments_came(chain: Federation) -> None:
    name = chain.submit(apply_chain(chain, "echo", MANY, "finish"))
    chain.wait_until_running(name)
    hub = next(process["pid"] for process in chain.supervised()[1] if process["role"] == "hub")
    with stopped(hub):
        wait_until_all_have_ended(chain)
    chain.call("wait", name)
    check_outputs(chain, name, MANY, "echo")


def wait_until_all_have_ended(chain: Federation) -> None:
    """Until each cluster's log has the word for the hub that its part has ended: the hub itself can't be asked."""
    deadline = time.monotonic() + 60
    logs = [chain.state / f"agent-{cluster}" / "coordinator.db" for cluster in (*EDGES, "cloud1")]
    while not all(has_ended(log) for log in logs):
        assert time.monotonic() < deadline, "the clusters did not get on without the hub"
        time.sleep(0.1)


def has_ended(log: Path) -> bool:
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as reader:
        rows = reader.execute("select body from outbox where destination = 'hub'").fetchall()
    return any(SessionRequest.FromString(body).HasField("ended") for (body,) in rows)


def test_an_edge_that_loses_its_workers_in_the_middle_loses_no_unit(chain: Federation) -> None:
    plain = chain.topology.read_text()
    tainted = yaml.safe_load(plain)
    next(each for each in tainted["spec"]["clusters"] if each["name"] == "edge1")["taints"] = [
        {"key": "removed", "effect": "NoExecute"}
    ]
    file = chain.topology.parent / "removal.yaml"
    name = chain.submit(apply_chain(chain, "shuffle", MANY, "finish", pace=0.5))
    chain.wait_until_running(name)
    file.write_text(yaml.safe_dump(tainted))
    chain.apply(file)
    try:
        chain.call("wait", name)
    finally:
        file.write_text(plain)
        chain.apply(file)
    check_outputs(chain, name, MANY, "shuffle")
    seen = told(chain, name)
    assert seen.tasks["edge2"] + seen.tasks["cloud1"] > seen.tasks.get("edge1", 0)


def test_what_was_measured_can_be_seen(chain: Federation) -> None:
    name = run(chain, apply_chain(chain, "echo", MANY, "spread"))
    explained = chain.call("explain", name)
    assert "Steps, as expected and as measured in this run" in explained
    assert "edge1" in explained
    described = chain.ask("describe", "cluster", "edge2")
    assert "echo@1" in str(described)
