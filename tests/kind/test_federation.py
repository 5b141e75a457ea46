"""The federation on three Kubernetes clusters: whatever is deleted or cut off, every run ends with the same output."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kind_clusters import EXAMPLE, ROOT, Clusters

from bdw_fed import SyncClient
from bdw_fed.client.errors import Unavailable
from bdw_fed.client.runs import has_ended
from bdw_fed.v1 import model_pb2 as model

pytestmark = pytest.mark.kind

PATIENCE = 120.0
LINES = 1000  # of a unit of the crossing workflow
Done = dict[str, int]


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


def weather(airport: str) -> int:
    """Rows of an airport's weather."""
    with (EXAMPLE / "data" / f"edge-{airport}" / "weather.csv").open(newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def units(airport: str) -> int:
    """Units that the crossing workflow makes of it."""
    return -(-weather(airport) // LINES)


def done_of(run: model.Run) -> Done:
    """Tasks done by step, over all clusters."""
    sums: Done = {}
    for fragment in run.fragments.values():
        for step in fragment.steps:
            sums[step.step] = sums.get(step.step, 0) + step.done
    return sums


def watch_until(clusters: Clusters, run: str, reached: Callable[[Done], bool]) -> model.Run:
    """The run as it is when so much is done, or when it has ended."""
    with SyncClient(state=clusters.state) as client:
        for seen in client.watch_run(run):
            if has_ended(seen) or reached(done_of(seen)):
                return seen
    raise AssertionError(f"the watch of {run} ended before the run")


def state_of(clusters: Clusters, cluster: str) -> str:
    """What the hub says of a cluster."""
    with SyncClient(state=clusters.state) as client:
        return next(seen.state for seen in client.status().clusters if seen.name == cluster)


def await_state(clusters: Clusters, cluster: str, wanted: Callable[[str], bool]) -> None:
    """Until the hub says so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if wanted(state_of(clusters, cluster)):
                return
        except Unavailable:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the hub still says that {cluster} is {state_of(clusters, cluster)}")


def ended_well(clusters: Clusters, run: str) -> None:
    clusters.federation.insist("wait", run)


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
    def pods() -> dict[str, str]:
        form = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid}{' '}{end}"
        return {name: clusters.kubectl(name, "get", "pods", "-o", form) for name in ("edge1", "edge2", "cloud1")}

    before = pods()
    clusters.kind("up", "--no-example")
    assert pods() == before


@pytest.mark.fault
def test_up_starts_nodes_again_that_stand_still_and_sets_what_they_have_lost(healed: Clusters) -> None:
    healed.kind("partition", "edge1", "edge2")
    subprocess.run(["docker", "pause", "edge2-worker"], check=True, capture_output=True)
    subprocess.run(["docker", "exec", "edge1-worker", "iptables", "-t", "raw", "-F", "PREROUTING"], check=True)
    healed.kind("up", "--no-example")
    assert json.loads(healed.kind("status", "-o", "json"))["ready"] is True
    rules = ["docker", "exec", "edge1-worker", "iptables", "-t", "raw", "-S", "PREROUTING"]
    assert "bdw-fed-edge2" in subprocess.run(rules, check=True, capture_output=True, text=True).stdout


def test_status_says_that_all_is_ready(clusters: Clusters) -> None:
    told = json.loads(clusters.kind("status", "-o", "json"))
    assert told["ready"] is True
    assert [cluster["name"] for cluster in told["clusters"]] == ["edge1", "edge2", "cloud1"]


@pytest.mark.fault
@pytest.mark.parametrize(
    ("cluster", "pod"),
    [
        ("cloud1", "bdw-fed-hub"),
        ("cloud1", "bdw-fed-etcd"),
        ("edge2", "bdw-fed-agent"),
        ("cloud1", "bdw-fed-agent"),
        ("edge1", "bdw-fed-node"),
    ],
)
def test_a_pod_that_is_killed_in_the_middle_changes_no_output(
    cluster: str, pod: str, clusters: Clusters, one_pass: str, tmp_path: Path
) -> None:
    run = clusters.federation.submit("delays")
    seen = watch_until(clusters, run, lambda done: done.get("clean", 0) >= 3)
    assert not has_ended(seen), "the run was too quick to be disturbed"
    victim = clusters.pod(cluster, pod)
    uid = clusters.kubectl(cluster, "get", victim, "-o", "jsonpath={.metadata.uid}")
    clusters.kill(cluster, pod)
    assert clusters.kubectl(cluster, "get", clusters.pod(cluster, pod), "-o", "jsonpath={.metadata.uid}") != uid
    ended_well(clusters, run)
    assert clusters.federation.outputs(run, tmp_path)["report.csv"] == one_pass
    for name in ("edge1", "edge2", "cloud1"):
        await_state(clusters, name, lambda state: state == "ready")


@pytest.mark.fault
def test_two_clusters_cut_off_from_each_other_do_all_else_and_the_rest_after_healing(
    healed: Clusters, tmp_path: Path
) -> None:
    healed.kind("partition", "edge1", "edge2")
    run = healed.federation.submit("crossing")
    at_edge1, at_edge2 = units("ewr"), units("jfk") + units("lga")

    def all_but_what_crosses(done: Done) -> bool:
        return done.get("keep", 0) == at_edge1 + at_edge2 and done.get("count", 0) >= at_edge2

    seen = watch_until(healed, run, all_but_what_crosses)
    assert not has_ended(seen)
    assert done_of(seen)["count"] == at_edge2, "what lies at edge1 can't have been counted at edge2"
    healed.kind("heal", "edge1", "edge2")
    ended_well(healed, run)
    rows = sum(weather(airport) for airport in ("ewr", "jfk", "lga"))
    assert healed.federation.outputs(run, tmp_path)["total.txt"] == f"{rows} {at_edge1 + at_edge2}\n"


@pytest.mark.xfail(
    strict=False,
    reason="once in five runs, seconds after new agents and a killed hub, what crosses waited for the hub; unexplained",
)
@pytest.mark.fault
def test_clusters_cut_off_from_the_hub_but_not_from_each_other_go_on(healed: Clusters, tmp_path: Path) -> None:
    run = healed.federation.submit("crossing", seconds=1.0)
    watch_until(healed, run, lambda done: done.get("keep", 0) >= 1)
    for edge in ("edge1", "edge2"):
        healed.kind("partition", edge, "cloud1")
    for edge in ("edge1", "edge2"):
        await_state(healed, edge, lambda state: state != "ready")
    # Nobody but edge2 itself can say what it has counted meanwhile: its logs are on the node.
    everything = sum(units(airport) for airport in ("ewr", "jfk", "lga"))
    deadline = time.monotonic() + PATIENCE
    while (counted := counted_at_edge2(healed, run)) < everything:
        assert time.monotonic() < deadline, f"{counted} of {everything} were counted while the hub was away"
        time.sleep(0.5)
    healed.kind("heal")
    ended_well(healed, run)
    rows = sum(weather(airport) for airport in ("ewr", "jfk", "lga"))
    assert healed.federation.outputs(run, tmp_path)["total.txt"] == f"{rows} {everything}\n"


def counted_at_edge2(clusters: Clusters, run: str) -> int:
    """Tasks of the counting step that have left a log on edge2's node."""
    script = f"find /var/lib/bdw-fed/node/logs -path '*/{run}/count/*.log' | wc -l"
    return int(clusters.kubectl("edge2", "exec", clusters.pod("edge2", "bdw-fed-node"), "--", "sh", "-c", script))


@pytest.mark.fault
def test_a_limited_link_carries_what_crosses_and_nothing_else_is_slowed(healed: Clusters, tmp_path: Path) -> None:
    healed.kind("link", "edge1", "edge2", "--bandwidth", "50Mbit")
    try:
        assert "rate 50Mbit" in shaped("edge1-worker")
        described = healed.federation.run("crossing")
        assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
        crossed = int(described["run"]["fragments"]["edge2"]["traffic"][0]["bytes"])
        assert sent_in_class("edge1-worker", "1:2") > crossed > 0
    finally:
        healed.kind("link", "edge1", "edge2", "--bandwidth", "none")
    assert "rate 50Mbit" not in shaped("edge1-worker")


def shaped(node: str) -> str:
    """The classes of traffic on a node."""
    return subprocess.run(
        ["docker", "exec", node, "tc", "-s", "class", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    ).stdout


def sent_in_class(node: str, number: str) -> int:
    """Bytes that went out in one class."""
    _, _, rest = shaped(node).partition(f"class htb {number} ")
    return int(rest.split("Sent ", 1)[1].split()[0])


@pytest.mark.parametrize("overlay", ["hub", "edge1", "edge2", "cloud1"])
def test_the_overlays_in_the_repository_are_what_kubernetes_takes(overlay: str, clusters: Clusters) -> None:
    place = ROOT / "deploy" / "kubernetes" / "overlays" / "three-clusters" / overlay
    clusters.kubectl("cloud1", "apply", "-k", str(place), "--dry-run=server", "--force-conflicts", "--server-side")


def test_a_node_daemon_may_do_what_worker_pods_need_in_its_own_namespace_and_no_more(
    clusters: Clusters, tmp_path: Path
) -> None:
    # As a component of an overlay would: the rights alone, on a cluster where nobody uses them.
    rbac = ROOT / "deploy" / "kubernetes" / "components" / "worker-pods"
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "rbac.yaml").write_text((rbac / "rbac.yaml").read_text())
    (overlay / "kustomization.yaml").write_text("namespace: bdw-fed\nresources: [rbac.yaml]\n")
    clusters.kubectl("edge1", "apply", "-k", str(overlay))
    try:
        for words, namespace, expected in (
            (["create", "pods"], "bdw-fed", "yes"),
            (["delete", "pods"], "bdw-fed", "yes"),
            (["get", "pods", "--subresource=log"], "bdw-fed", "yes"),
            (["list", "resourcequotas"], "bdw-fed", "yes"),
            (["list", "nodes"], "bdw-fed", "no"),
            (["create", "pods"], "default", "no"),
            (["get", "secrets"], "bdw-fed", "no"),
            (["create", "pods", "--subresource=exec"], "bdw-fed", "no"),
            (["patch", "nodes"], "bdw-fed", "no"),
        ):
            account = "system:serviceaccount:bdw-fed:bdw-fed-node"
            config = ["--kubeconfig", str(clusters.state / "kubeconfig"), "--context", "kind-edge1"]
            said = subprocess.run(
                ["kubectl", *config, "auth", "can-i", *words, "--as", account, "-n", namespace],
                capture_output=True,
                text=True,
                check=False,
            )
            assert said.stdout.strip() == expected, f"{' '.join(words)} in {namespace}: {said.stdout}{said.stderr}"
    finally:
        clusters.kubectl("edge1", "delete", "-k", str(overlay))


def test_no_pod_of_ours_could_write_to_its_image_or_become_root(clusters: Clusters) -> None:
    for cluster, name in (("cloud1", "bdw-fed-hub"), ("edge1", "bdw-fed-agent"), ("edge1", "bdw-fed-node")):
        pod = clusters.pod(cluster, name)
        script = "id -u; touch /opt/x 2>&1; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status; true"
        said = clusters.kubectl(cluster, "exec", pod, "--", "sh", "-c", script)
        assert said.startswith("65532\n")
        assert "Read-only file system" in said
        assert "NoNewPrivs:\t1" in said
        assert "CapEff:\t0000000000000000" in said
