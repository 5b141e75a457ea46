"""What a topology says of a cluster's storage is checked where it is written, and reaches the cluster's nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdw_fed.embedded.layout import Process
from bdw_fed.embedded.topologies import check, choose
from bdw_fed.v1.control_plane_pb2 import Problem
from cluster_agent.data.shared.config import ObjectsConfig, RedisConfig
from cluster_agent.data.shared.declared import shared_config
from topology.checks import check_topology
from topology.storage import Storage
from wire.errors import ProblemError

TOPOLOGY = """\
kind: Topology
metadata: {name: one}
spec:
  zones: [{name: here, tier: edge}]
  clusters:
    - name: edge
      zone: here
      nodes: [{name: n1}]
      storage: STORAGE
"""


def wrong(storage: str, text: str = TOPOLOGY) -> Problem:
    with pytest.raises(ProblemError) as raised:
        check(text.replace("STORAGE", storage), "topology.yaml")
    (problem,) = raised.value.problems
    return problem


@pytest.mark.parametrize(
    ("storage", "field", "words"),
    [
        ("{redis: {url: 'http://r:1'}}", "storage.redis.url", "is not the address of a Redis"),
        ("{redis: {url: 'redis://r:1/x'}}", "storage.redis.url", "is not the address of a Redis"),
        ("{redis: {url: 'redis://me:secret@r:1'}}", "storage.redis.url", "has a user or a password in it"),
        ("{redis: {url: 'redis://r:1', prefix: ''}}", "storage.redis.prefix", "the prefix is empty"),
        ("{objects: {bucket: a/b}}", "storage.objects.bucket", "is not the name of a bucket"),
        ("{objects: {bucket: a, prefix: /}}", "storage.objects.prefix", "the prefix is empty"),
        ("{objects: {bucket: a, endpoint: 'http://s:1'}}", "storage.objects.endpoint", "without TLS"),
        ("{objects: {bucket: a, endpoint: 's3.example.org'}}", "storage.objects.endpoint", "is not an endpoint"),
    ],
)
def test_what_can_not_be_meant_is_named_with_its_field(storage: str, field: str, words: str) -> None:
    problem = wrong(storage)
    assert problem.field == f"spec.clusters[0].{field}"
    assert words in problem.message
    assert "secret" not in problem.message
    assert problem.remedy
    assert problem.line == 9


def test_a_cluster_of_kubernetes_has_nothing_in_memory() -> None:
    pods = TOPOLOGY.replace("nodes: [{name: n1}]", "runtime: kubernetes")
    with pytest.raises(ProblemError) as raised:
        check(pods.replace("STORAGE", "{memory: 1Gi}"), "topology.yaml")
    (problem,) = raised.value.problems
    assert problem.field == "spec.clusters[0].storage.memory"
    assert "leave memory out" in problem.remedy
    (topology,) = check(pods.replace("STORAGE", "{redis: {url: 'redis://r:7'}}"), "topology.yaml")
    assert not list(check_topology(topology))


def test_it_reaches_the_nodes_with_its_credentials_as_files(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    said = "{memory: 1Gi, redis: {url: 'redis://r:7', credentials: rc}, objects: {bucket: b, credentials: oc}}"
    file.write_text(TOPOLOGY.replace("STORAGE", said))
    (node,) = choose(file, None).nodes
    storage = Storage.model_validate_json(node.storage)
    assert storage.redis is not None
    assert storage.memory == 1 << 30
    made = shared_config(storage, tmp_path)
    assert made.redis == RedisConfig("redis://r:7", tmp_path / "rc")
    assert made.objects == ObjectsConfig("b", credentials=tmp_path / "oc")
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc" / "ca.pem").touch()
    other = storage.redis.model_copy(update={"prefix": "two"})
    made = shared_config(storage.model_copy(update={"redis": other}), tmp_path)
    assert made.redis == RedisConfig("redis://r:7", tmp_path / "rc", tmp_path / "rc" / "ca.pem", "two")
    file.write_text(TOPOLOGY.replace("      storage: STORAGE\n", ""))
    (plain,) = choose(file, None).nodes
    assert plain.storage == Process("n", "node", "", "", "", {}).storage == ""
