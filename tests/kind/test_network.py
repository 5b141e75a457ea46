"""Clusters that are cut off from each other or from the hub, and links that are slow."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kind_clusters import EXAMPLE, Clusters, done_of, until
from surroundings import LARGE_MB

from bdw_fed import SyncClient
from bdw_fed.client.runs import has_ended
from bdw_fed.v1 import model_pb2 as model

pytestmark = pytest.mark.kind

LINES = 1000  # of a unit of the crossing workflow
RATE = 50e6 / 8  # bytes a second of the limited link
BUSY = 0.95


@pytest.fixture
def healed(clusters: Clusters) -> Iterator[Clusters]:
    """The clusters, whose network is whole again after the test."""
    yield clusters
    clusters.kind("heal")


def weather(airport: str) -> int:
    """Rows of an airport's weather."""
    with (EXAMPLE / "data" / f"edge-{airport}" / "weather.csv").open(newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def units(airport: str) -> int:
    """Units that the crossing workflow makes of it."""
    return -(-weather(airport) // LINES)


AT_EDGE1, AT_EDGE2 = ("ewr",), ("jfk", "lga")


def check_total(clusters: Clusters, run: str, directory: Path) -> None:
    """The run ends, and all rows of all units were counted once."""
    clusters.wait(run)
    airports = (*AT_EDGE1, *AT_EDGE2)
    wanted = f"{sum(map(weather, airports))} {sum(map(units, airports))}\n"
    assert clusters.federation.outputs(run, directory)["total.txt"] == wanted


@pytest.mark.fault
def test_two_clusters_cut_off_from_each_other_do_all_else_and_the_rest_after_healing(
    healed: Clusters, tmp_path: Path
) -> None:
    healed.kind("partition", "edge1", "edge2")
    run = healed.federation.submit("crossing")
    at_edge1, at_edge2 = (sum(map(units, airports)) for airports in (AT_EDGE1, AT_EDGE2))

    def all_but_what_crosses(run: model.Run) -> bool:
        done = done_of(run)
        return done.get("keep", 0) == at_edge1 + at_edge2 and done.get("count", 0) >= at_edge2

    seen = healed.watch_until(run, all_but_what_crosses)
    assert not has_ended(seen)
    assert done_of(seen)["count"] == at_edge2, "what lies at edge1 can't have been counted at edge2"
    healed.kind("heal", "edge1", "edge2")
    check_total(healed, run, tmp_path)


@pytest.mark.fault
def test_clusters_cut_off_from_the_hub_but_not_from_each_other_go_on(healed: Clusters, tmp_path: Path) -> None:
    run = healed.federation.submit("crossing", seconds=2.0)
    # A cluster has to have its part of the run before it can go on with it alone.
    seen = healed.watch_until(run, lambda run: all(done_of(run, edge).get("keep") for edge in ("edge1", "edge2")))
    assert not has_ended(seen), "the run was too quick to be disturbed"
    for edge in ("edge1", "edge2"):
        healed.kind("partition", edge, "cloud1")
    everything = sum(map(units, (*AT_EDGE1, *AT_EDGE2)))
    assert counted_at_edge2(healed, run) < everything, "all was done before the hub was cut off"
    for edge in ("edge1", "edge2"):
        healed.await_state(edge, lambda state: state != "ready")
    # Nobody but edge2 itself can say what it has counted meanwhile: its logs are on the node.
    until(lambda: counted_at_edge2(healed, run) == everything, "not all was counted while the hub was away")
    healed.kind("heal")
    check_total(healed, run, tmp_path)


def counted_at_edge2(clusters: Clusters, run: str) -> int:
    """Tasks of the counting step that have left a log on edge2's node."""
    script = f"find /var/lib/bdw-fed/node/logs -path '*/{run}/count/*.log' | wc -l"
    return int(clusters.kubectl("edge2", "exec", clusters.pod("edge2", "bdw-fed-node"), "--", "sh", "-c", script))


@pytest.mark.fault
def test_a_limited_link_is_kept_busy_by_one_large_unit(healed: Clusters, tmp_path: Path) -> None:
    healed.kind("link", "edge1", "edge2", "--bandwidth", "50Mbit")
    try:
        before = sent_in_class("edge1", "1:2")
        run = healed.federation.submit("large")
        healed.wait(run)
        sent = sent_in_class("edge1", "1:2") - before
    finally:
        healed.kind("link", "edge1", "edge2", "--bandwidth", "none")
    assert "rate 50Mbit" not in shaped("edge1-worker")
    assert healed.federation.outputs(run, tmp_path)["size.txt"].strip() == str(LARGE_MB * 1_000_000)
    size, seconds = fetched(healed, run)
    assert size == LARGE_MB * 1_000_000
    share = sent / seconds / RATE
    print(
        f"\n{size / 1e6:.0f} MB in {seconds:.2f} s: {size / seconds / RATE:.1%} of the link, {share:.1%} with headers"
    )
    assert share >= BUSY


def fetched(clusters: Clusters, run: str) -> tuple[int, float]:
    """Bytes and seconds of the one unit that crossed in a run, as the federation tells them."""
    with SyncClient(state=clusters.state) as client:
        events = [event for event in client.events(run) if event.type.endswith("unit.fetched")]
    (data,) = (json.loads(event.data_json) for event in events)
    return data["bytes"], data["seconds"]


def shaped(node: str) -> str:
    """The classes of traffic on a node."""
    return subprocess.run(
        ["docker", "exec", node, "tc", "-s", "class", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    ).stdout


def sent_in_class(cluster: str, number: str) -> int:
    """Bytes that went out of a cluster's nodes in one class."""
    nodes = subprocess.run(["kind", "get", "nodes", "--name", cluster], capture_output=True, text=True, check=True)
    classes = (shaped(node).partition(f"class htb {number} ")[2] for node in nodes.stdout.split())
    return sum(int(told.split("Sent ", 1)[1].split()[0]) for told in classes)
