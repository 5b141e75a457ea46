"""The federation on three Kubernetes clusters: how it is brought up, what it may do there, and the flights example."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kind_clusters import EXAMPLE, NAMES, ROOT, Clusters

pytestmark = pytest.mark.kind


@pytest.fixture(scope="module")
def one_pass() -> str:
    """The flights report of one pass over all data."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "onepass.py")], capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout


@pytest.fixture
def healed(clusters: Clusters) -> Iterator[Clusters]:
    """The clusters, whose network is whole again after the test."""
    yield clusters
    clusters.kind("heal")


def test_the_flights_report_equals_one_pass_and_only_sums_cross(
    clusters: Clusters, one_pass: str, tmp_path: Path
) -> None:
    described = clusters.federation.run("delays")
    assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
    assert clusters.federation.outputs(described["run"]["name"], tmp_path)["report.csv"] == one_pass
    fragments: dict[str, Any] = described["run"]["fragments"]
    for step in ("clean", "join", "aggregate"):
        where = {
            cluster
            for cluster, fragment in fragments.items()
            for told in fragment.get("steps", [])
            if told["step"] == step and int(told.get("done", 0))
        }
        assert where == {"edge1", "edge2"}
    crossed = [
        (traffic["fromCluster"], cluster)
        for cluster, fragment in fragments.items()
        for traffic in fragment.get("traffic", [])
    ]
    assert sorted(crossed) == [("edge1", "cloud1"), ("edge2", "cloud1")]


def test_up_once_more_changes_nothing(clusters: Clusters) -> None:
    def pods() -> dict[str, dict[str, str]]:
        ours = "app.kubernetes.io/part-of=bdw-fed,app.kubernetes.io/name!=bdw-fed-worker"
        return {name: clusters.uids(name, ours) for name in NAMES}

    before = pods()
    clusters.up()
    assert pods() == before


@pytest.mark.fault
def test_up_starts_nodes_again_that_stand_still_and_sets_what_they_have_lost(healed: Clusters) -> None:
    healed.kind("partition", "edge1", "edge2")
    subprocess.run(["docker", "pause", "edge2-worker"], check=True, capture_output=True)
    subprocess.run(["docker", "exec", "edge1-worker", "iptables", "-t", "raw", "-F", "PREROUTING"], check=True)
    healed.up()
    assert json.loads(healed.kind("status", "-o", "json"))["ready"] is True
    rules = ["docker", "exec", "edge1-worker", "iptables", "-t", "raw", "-S", "PREROUTING"]
    assert "bdw-fed-edge2" in subprocess.run(rules, check=True, capture_output=True, text=True).stdout


def test_status_says_that_all_is_ready(clusters: Clusters) -> None:
    told = json.loads(clusters.kind("status", "-o", "json"))
    assert told["ready"] is True
    assert [cluster["name"] for cluster in told["clusters"]] == list(NAMES)


@pytest.mark.parametrize("overlay", ["hub", "edge1", "edge2", "cloud1"])
def test_the_overlays_in_the_repository_are_what_kubernetes_takes(overlay: str, clusters: Clusters) -> None:
    place = ROOT / "deploy" / "kubernetes" / "overlays" / "three-clusters" / overlay
    clusters.kubectl("cloud1", "apply", "-k", str(place), "--dry-run=server")


@pytest.mark.parametrize(
    ("words", "namespace", "expected"),
    [
        ("create pods", "bdw-fed", "yes"),
        ("delete pods", "bdw-fed", "yes"),
        ("get pods --subresource=log", "bdw-fed", "yes"),
        ("list resourcequotas", "bdw-fed", "yes"),
        ("list nodes", "bdw-fed", "no"),
        ("create pods", "default", "no"),
        ("get secrets", "bdw-fed", "no"),
        ("create pods --subresource=exec", "bdw-fed", "no"),
        ("patch nodes", "bdw-fed", "no"),
    ],
)
def test_a_node_daemon_may_do_what_worker_pods_need_in_its_own_namespace_and_no_more(
    words: str, namespace: str, expected: str, clusters: Clusters
) -> None:
    account = "system:serviceaccount:bdw-fed:bdw-fed-node"
    asked = ["auth", "can-i", *words.split(), "--as", account]
    assert clusters.ask_kubectl("edge1", *asked, namespace=namespace).stdout.strip() == expected


def test_no_pod_of_ours_could_write_to_its_image_or_become_root(clusters: Clusters) -> None:
    for cluster, name in (("cloud1", "bdw-fed-hub"), ("edge2", "bdw-fed-agent"), ("edge2", "bdw-fed-node")):
        pod = clusters.pod(cluster, name)
        script = "id -u; touch /opt/x 2>&1; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status; true"
        said = clusters.kubectl(cluster, "exec", pod, "--", "sh", "-c", script)
        assert said.startswith("65532\n")
        assert "Read-only file system" in said
        assert "NoNewPrivs:\t1" in said
        assert "CapEff:\t0000000000000000" in said
