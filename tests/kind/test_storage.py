"""Places beside the disks on Kubernetes: a Redis, a bucket of two clusters, and memory where workers are processes.

What went through them their own servers say. Credentials come from Secrets; one place speaks TLS.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stores
import worked
import yaml
from kind_clusters import Clusters, done_of, until

from bdw_fed.client.runs import has_ended
from bdw_fed.embedded.topologies import check
from bdw_fed.kind.environment import as_made, environment_of

pytestmark = pytest.mark.kind

PIECES = 8
SIZES = {"small": 64, "large": 1100}  # KiB: what goes to the Redis, and what is too much for it
MEMORY = 64 << 20
IMAGE = "jsonpath={.spec.containers[0].image}"
IN_MEMORY = 12  # pieces of the larger size


def pieces_of(directory: Path, name: str) -> list[int]:
    """Which pieces were made, of files each of which must be whole."""
    found = []
    for file in directory.glob(f"{name}-*"):
        first, *lines = file.read_text().splitlines()
        assert len(lines) == SIZES[name] * 1024 // 64
        assert {line.strip() for line in lines} == {first}
        found.append(int(first.split()[1]))
    return sorted(found)


def check_pieces(clusters: Clusters, run: str, directory: Path) -> None:
    """Each piece of both sizes is there once, and whole, and so they were in the cloud."""
    clusters.federation.insist("outputs", run, "--to", str(directory))
    for name in SIZES:
        assert pieces_of(directory, name) == list(range(PIECES))
        assert (directory / f"{name}.txt").read_text() == "".join(f"{index}\n" for index in range(PIECES))


def tiers(clusters: Clusters, cluster: str) -> list[dict[str, Any]]:
    """The tiers of all nodes of a cluster, as `describe cluster` has them."""
    nodes = clusters.federation.ask("describe", "cluster", cluster)["nodes"]
    return [tier for node in nodes for tier in node.get("tiers", [])]


def used(clusters: Clusters, cluster: str, tier: str) -> int:
    """Bytes that lie in one of them."""
    return sum(int(each.get("used", 0)) for each in tiers(clusters, cluster) if each["name"] == tier)


def kept(clusters: Clusters, run: str) -> list[str]:
    """What lies in the bucket of a run of edge1: once it has ended, its outputs."""
    return stores.objects(clusters.kubectl, f"units/default/{run}/edge1/")


def test_units_go_by_the_redis_and_the_bucket_and_outputs_stay_in_the_bucket_as_long_as_they_are_kept(
    clusters: Clusters, tmp_path: Path
) -> None:
    before = stores.redis_told(clusters.kubectl, "all")
    run = clusters.federation.submit("shared-pieces")
    clusters.wait(run)
    after = stores.redis_told(clusters.kubectl, "all")
    assert stores.calls(after, "set") - stores.calls(before, "set") >= 2 * PIECES, "made, and copied"
    assert int(after["keyspace_hits"]) > int(before["keyspace_hits"]), "one of two nodes has made them for both"
    units = f"units/default/{run}/edge1/"
    assert len(stores.requests(clusters.kubectl, "PUT", units)) >= 2 * PIECES
    assert len(stores.requests(clusters.kubectl, "GET", units)) >= PIECES, "what crosses comes from there"
    until(lambda: len(kept(clusters, run)) == 2 * PIECES, "all outputs are in the bucket")
    until(lambda: used(clusters, "edge1", "objects") >= PIECES * 1100 * 1024, "the cluster is described with them")
    places = {tier["place"] for tier in tiers(clusters, "edge1") if tier["name"] == "shared"}
    assert {place.split(":")[0] for place in places} == {"rediss", "s3"}
    check_pieces(clusters, run, tmp_path)
    clusters.federation.call("delete", f"run/{run}")
    until(lambda: not kept(clusters, run), "nothing of the run is in the bucket")


def test_an_example_whose_units_and_outputs_are_shared_makes_what_it_makes_without(
    clusters: Clusters, tmp_path: Path
) -> None:
    place = clusters.federation.topology.parent / worked.PLACE / "web-logs"
    *steps, workflow = yaml.safe_load_all((place / "web-logs.yaml").read_text())
    workflow["metadata"]["name"] = "shared-web-logs"
    (grouped,) = (step for step in workflow["spec"]["steps"] if step["name"] == "summary")
    grouped["in"]["requests"]["store"] = "shared"
    workflow["spec"]["outputs"]["hours"] |= {"store": "shared", "retain": "1h"}
    (place / "shared.yaml").write_text(yaml.safe_dump_all([*steps, workflow], sort_keys=False))
    clusters.federation.apply(place / "shared.yaml")
    before = stores.calls(stores.redis_told(clusters.kubectl, "commandstats"), "set")
    run = clusters.federation.run("shared-web-logs")["run"]
    assert run["state"] == "RUN_STATE_SUCCEEDED", run.get("message")
    assert stores.calls(stores.redis_told(clusters.kubectl, "commandstats"), "set") > before
    worked.CHECKS["web-logs"](place, clusters.federation.fetch(run["name"], tmp_path))
    clusters.federation.call("delete", f"run/{run['name']}")


@pytest.mark.fault
def test_pods_of_the_places_and_of_nodes_that_die_in_the_middle_change_no_output(
    clusters: Clusters, tmp_path: Path
) -> None:
    run = clusters.federation.submit("shared-pieces", seconds=2)
    reached = clusters.watch_until(run, lambda run: min(done_of(run).get(name, 0) for name in SIZES) >= 1)
    assert not has_ended(reached), "the run was too quick to be disturbed"
    for cluster, name in (stores.REDIS, stores.S3):
        words = ("-l", f"app={name}", "--grace-period=0", "--force")
        clusters.kubectl(cluster, "delete", "pods", *words, namespace=stores.SPACE)
    ours = ("-l", "app.kubernetes.io/name=bdw-fed-node", "--field-selector", "spec.nodeName=edge1-worker2")
    clusters.kubectl("edge1", "delete", "pods", *ours, "--grace-period=0", "--force")
    clusters.wait(run)
    stores.await_answers(clusters.kubectl)
    until(lambda: len(kept(clusters, run)) == 2 * PIECES, "all outputs are in the bucket in the end")
    check_pieces(clusters, run, tmp_path)
    clusters.federation.call("delete", f"run/{run}")
    clusters.await_ready("edge1")
    clusters.await_all_ready()


@pytest.fixture
def processes(clusters: Clusters, tmp_path: Path) -> Iterator[Clusters]:
    """The clusters, with edge2's workers as processes in its daemon's pod, and units in that pod's memory."""
    declared = clusters.federation.topology.read_text()
    content = yaml.safe_load(declared)
    (edge,) = (cluster for cluster in content["spec"]["clusters"] if cluster["name"] == "edge2")
    edge |= {"runtime": "process", "storage": {"memory": MEMORY}}
    file = tmp_path / "memory.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    image = clusters.kubectl("edge2", "get", clusters.pod("edge2", "bdw-fed-agent"), "-o", IMAGE)
    installation = tmp_path / "installation"  # the overlay of the environment itself stays
    for name in ("ca", "clusters"):
        shutil.copytree(clusters.state / name, installation / name)
    words = ["--directory", str(installation), "--topology", str(file), "--cluster", "edge2", "--node", "edge2-worker"]
    words += ["--hub", "cloud1-control-plane:30443", "--advertise-peers", "edge2-control-plane:30445"]
    words += ["--image", image, "--durability", "process"]
    manifest = tmp_path / "edge2.yaml"
    manifest.write_text(clusters.federation.call("agent", "manifest", *words))
    try:
        clusters.kubectl("edge2", "apply", "-f", str(manifest))
        declare(clusters, file.read_text(), tmp_path)
        clusters.await_ready("edge2")
        clusters.await_all_ready()
        yield clusters
    finally:
        clusters.kubectl("edge2", "apply", "-k", str(clusters.state / "clusters" / "edge2"))
        declare(clusters, declared, tmp_path)
        clusters.await_ready("edge2")
        clusters.await_all_ready()


def declare(clusters: Clusters, text: str, directory: Path) -> None:
    """Apply the topology as it is on these clusters."""
    (topology,) = check(text, "topology.yaml")
    file = directory / "declared.yaml"
    file.write_text(as_made(text, environment_of(topology)))
    clusters.federation.apply(file)


@pytest.mark.fault
def test_units_lie_in_the_memory_of_the_daemons_pod_and_none_is_missed_when_that_pod_is_gone(
    processes: Clusters, tmp_path: Path
) -> None:
    clusters = processes
    run = clusters.federation.submit("pieces-in-memory")
    until(lambda: used(clusters, "edge2", "memory") >= 4 * 1100 * 1024, "units lie in memory")
    reached = clusters.watch_until(run, lambda run: done_of(run).get("copy", 0) >= 1)
    assert not has_ended(reached), "the run was too quick to be disturbed"
    clusters.kill("edge2", "bdw-fed-node")
    clusters.wait(run)
    listed = "".join(f"{index}\n" for index in range(IN_MEMORY))
    assert clusters.federation.outputs(run, tmp_path / "outputs")["list.txt"] == listed
