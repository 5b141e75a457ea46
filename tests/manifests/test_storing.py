"""What a topology says of storage gets to node daemons on Kubernetes: words in a ConfigMap, credentials in a Secret."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from bdw_fed.cli.arguments import parse
from bdw_fed.cli.exits import UsageError
from bdw_fed.cli.verbs import load
from bdw_fed.cli.verbs.node import storage_of
from bdw_fed.embedded.topologies import check
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.installation import Installation, render
from bdw_fed.manifests.overlays import AgentPlace, HubPlace
from bdw_fed.manifests.storing import Storing, storing
from cluster_agent.data.shared.declared import shared_config
from topology.model import Cluster

SECRET = b"don't-tell"
TOPOLOGY = """\
kind: Topology
metadata: {name: two}
spec:
  zones: [{name: here, tier: cloud}]
  clusters:
    - name: pods
      zone: here
      runtime: kubernetes
      storage:
        redis: {url: "rediss://redis.example.org:6379/0", credentials: cache}
        objects: {bucket: federation, endpoint: "https://s3.example.org", credentials: bucket}
    - {name: plain, zone: here, runtime: kubernetes}
    - {name: quick, zone: here, runtime: process, nodes: [{name: w1}], storage: {memory: 1GiB}}
"""


def cluster(name: str) -> Cluster:
    (topology,) = check(TOPOLOGY, "topology.yaml")
    return next(each for each in topology.spec.clusters if each.name == name)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    place = tmp_path / "credentials"
    for name in ("cache/password", "cache/ca.pem", "bucket/access-key-id", "bucket/secret-access-key", "bucket/notes"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(SECRET)
    return place


def overlay_of(tmp_path: Path, storage: Storing | None) -> Path:
    kept = Installation(tmp_path / "kept")
    kept.hub(HubPlace(image="b:1"))
    return kept.agent(AgentPlace("pods", "h:1", ("w1",), "b:1", pods=True, storage=storage))


def test_nodes_find_the_words_and_the_credentials_of_their_own_cluster(tmp_path: Path, credentials: Path) -> None:
    made = storing(cluster("pods"), credentials, pods=True)
    assert made is not None
    assert "plain" not in made.topology
    overlay = overlay_of(tmp_path, made)
    assert storage_of(overlay / "storage" / "topology.yaml", "pods") == cluster("pods").storage
    assert "bucket/notes" not in made.credentials
    assert stat.S_IMODE((overlay / "storage" / "cache" / "password").stat().st_mode) == 0o600
    told = shared_config(cluster("pods").storage, overlay / "storage")
    assert told.redis is not None
    assert told.redis.authority == overlay / "storage" / "cache" / "ca.pem"


def test_a_cluster_without_any_has_neither(tmp_path: Path) -> None:
    assert storing(cluster("plain"), None, pods=True) is None
    written = (overlay_of(tmp_path, None) / "kustomization.yaml").read_text()
    assert "storage" not in written


def test_credentials_that_are_not_there_are_named(credentials: Path) -> None:
    with pytest.raises(ManifestError, match="names the credentials bucket, cache: say with --storage-credentials"):
        storing(cluster("pods"), None, pods=True)
    (credentials / "cache" / "password").unlink()
    with pytest.raises(ManifestError, match="cache/password: not there"):
        storing(cluster("pods"), credentials, pods=True)


def test_memory_is_for_processes_since_pods_would_not_see_it(tmp_path: Path) -> None:
    made = storing(cluster("quick"), None, pods=False)
    assert made is not None and made.memory == 1 << 30
    with pytest.raises(ManifestError, match="the storage of quick: memory: workers that are pods don't see"):
        storing(cluster("quick"), None, pods=True)


def test_memory_that_durability_would_leave_empty_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    verb = load("agent manifest").command
    words = ["--directory", str(tmp_path), "--hub", "h:1", "--node", "w1", "--topology", str(file)]
    with pytest.raises(UsageError, match="--durability: power, where nodes keep no units in memory"):
        verb(**parse(verb, [*words, "--cluster", "quick"]))
    with pytest.raises(UsageError, match="--durability: expected power or process, not 'none'"):
        verb(**parse(verb, [*words, "--cluster", "plain", "--durability", "none"]))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the manifests")
@pytest.mark.parametrize("name", ["plain", "quick"])
def test_the_pod_has_room_for_what_is_in_memory_and_time_to_move_it_when_it_is_stopped(
    name: str, tmp_path: Path
) -> None:
    kept = Installation(tmp_path)
    kept.hub(HubPlace(image="b:1"))
    place = AgentPlace(name, "h:1", ("w1",), "b:1", storage=storing(cluster(name), None, pods=False))
    overlay = kept.agent(place)
    if place.storage is not None:
        told_of = storage_of(overlay / "storage" / "topology.yaml", name)
        assert told_of == cluster(name).storage, "as its daemon reads it"
    objects: list[dict[str, Any]] = [each for each in yaml.safe_load_all(render(overlay)) if each]
    (daemons,) = [each for each in objects if each["kind"] == "DaemonSet"]
    pod = daemons["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume.get("emptyDir") for volume in pod["volumes"]}
    words = [word.replace("$(WORKER_CPUS)", "2") for word in container["args"][1:]]
    told = parse(load("node").command, words)
    (mounted,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == told["memory_directory"]]
    assert mounted["name"] == "memory" and volumes["memory"]["medium"] == "Memory"
    if name == "plain":
        assert volumes["memory"]["sizeLimit"] == "256Mi", "as in the base: small tasks' files alone"
        return
    size, most = int(volumes["memory"]["sizeLimit"]), int(container["resources"]["limits"]["memory"])
    small, units = 256 << 20, 1 << 30
    assert size - small - units >= size // 4 - 1, "a node leaves a quarter of that file system to others"
    assert most >= place.memory + size, "what lies there is the pod's memory"
    assert pod["terminationGracePeriodSeconds"] >= 30 + units // (100 << 20)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the manifests")
def test_the_daemon_mounts_them_and_no_secret_is_in_the_config_map(tmp_path: Path, credentials: Path) -> None:
    rendered = render(overlay_of(tmp_path, storing(cluster("pods"), credentials, pods=True)))
    objects: list[dict[str, Any]] = [each for each in yaml.safe_load_all(rendered) if each]
    named = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    (daemons,) = [each for each in objects if each["kind"] == "DaemonSet"]
    pod = daemons["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    words = named["ConfigMap", volumes["storage"]["configMap"]["name"]]
    secret = volumes["storage-credentials"]["secret"]
    assert SECRET.decode() not in yaml.safe_dump(words)
    kept = named["Secret", secret["secretName"]]["data"]
    assert {item["path"] for item in secret["items"]} == {
        "cache/password",
        "cache/ca.pem",
        "bucket/access-key-id",
        "bucket/secret-access-key",
    }
    assert kept.keys() == {item["key"] for item in secret["items"]}
    (container,) = pod["containers"]
    assert "--topology=/etc/bdw-fed/storage/topology.yaml" in container["args"]
    assert {"storage", "storage-credentials"} <= {mount["name"] for mount in container["volumeMounts"]}
