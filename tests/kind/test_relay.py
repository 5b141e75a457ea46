"""Two clusters that can't reach each other, and a relay in the third that both can: all that crosses goes over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kind_clusters import Clusters, until
from test_network import check_total

from bdw_fed.embedded.topologies import check
from bdw_fed.kind.environment import as_made, environment_of

pytestmark = pytest.mark.kind

RELAY = "one"
OURS = "app.kubernetes.io/name=bdw-fed-relay"


@pytest.fixture
def relayed(clusters: Clusters, tmp_path: Path) -> Iterator[Clusters]:
    """The clusters with a relay in the cloud; the edges are cut off from each other, as the topology then says."""
    image = clusters.kubectl("cloud1", "get", "pods", "-o", "jsonpath={.items[0].spec.containers[0].image}")
    manifest = tmp_path / "relay.yaml"
    words = ("--directory", str(clusters.state), "--name", RELAY, "--image", image)
    manifest.write_text(clusters.federation.call("relay", "manifest", *words))
    declared = clusters.federation.topology.read_text()
    try:
        clusters.kubectl("cloud1", "apply", "-f", str(manifest))
        clusters.await_ready("cloud1")
        clusters.kind("partition", "edge1", "edge2")
        declare(clusters, with_relay(declared), tmp_path)
        yield clusters
    finally:
        clusters.kind("heal")
        declare(clusters, declared, tmp_path)
        clusters.kubectl("cloud1", "delete", "deployment,service,serviceaccount", "-l", OURS)


def with_relay(text: str) -> str:
    """The topology, whose edges can't dial each other and have a relay."""
    content = yaml.safe_load(text)
    (link,) = (link for link in content["spec"]["links"] if set(link["between"]) == {"edge1", "edge2"})
    link["dial"] = "none"
    content["spec"]["relays"] = [{"name": RELAY, "address": "relay.example.org:7447"}]
    return yaml.safe_dump(content, sort_keys=False)


def declare(clusters: Clusters, text: str, directory: Path) -> None:
    """Apply the topology as it is on these clusters."""
    (topology,) = check(text, "topology.yaml")
    file = directory / "topology.yaml"
    file.write_text(as_made(text, environment_of(topology)))
    clusters.federation.apply(file)


def passed(clusters: Clusters) -> dict[tuple[str, str], int]:
    """Bytes that the relay has passed on, by sender and receiver."""
    pod = clusters.pod("cloud1", "bdw-fed-relay").removeprefix("pod/")
    told = clusters.kubectl("cloud1", "get", "--raw", f"/api/v1/namespaces/bdw-fed/pods/{pod}:7449/proxy/metrics")
    lines = re.findall(r'bdw_fed_relay_bytes_total\{sender="(.*)",receiver="(.*)"\} (\d+)', told)
    return {(sender, receiver): int(count) for sender, receiver, count in lines}


def way(clusters: Clusters, cluster: str, peer: str) -> str:
    """How a cluster reaches another one, as `describe` tells it."""
    peers: list[dict[str, Any]] = clusters.federation.ask("describe", "cluster", cluster).get("peers", [])
    return next((each["path"] for each in peers if each["cluster"] == peer), "")


@pytest.mark.fault
def test_two_clusters_cut_off_from_each_other_but_not_from_a_relay_finish_and_all_that_crosses_passes_it(
    relayed: Clusters, tmp_path: Path
) -> None:
    before = passed(relayed)
    run = relayed.federation.submit("crossing")
    check_total(relayed, run, tmp_path)
    until(lambda: way(relayed, "edge1", "edge2") == "relay", "edge1 does not reach edge2 over the relay")
    fragments = relayed.federation.describe(run)["run"]["fragments"]
    crossed = {
        (traffic["fromCluster"], cluster): int(traffic["bytes"])
        for cluster, fragment in fragments.items()
        for traffic in fragment.get("traffic", [])
    }
    through = {pair: count - before.get(pair, 0) for pair, count in passed(relayed).items()}
    print(f"\ncrossed by link: {crossed}; passed on by the relay: {through}")
    assert crossed[("edge1", "edge2")] > 0
    assert through[("edge1", "edge2")] >= crossed[("edge1", "edge2")]
    assert {frozenset(pair) for pair in through} == {frozenset(("edge1", "edge2"))}, "others can reach each other"
