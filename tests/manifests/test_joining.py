"""A cluster on Kubernetes joins with a token: no key is made outside of it, and the manifest alone makes no member."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bdw_fed.cli.arguments import parse
from bdw_fed.cli.exits import UsageError
from bdw_fed.cli.verbs import load
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.installation import Installation, render
from bdw_fed.manifests.overlays import AgentPlace, Joining
from cluster_agent.membership.node_token import hash_of

HASH = f"sha256:{'5d' * 32}"
PLACE = AgentPlace(
    "edge1", "hub.example.org:30443", (), "b:1", pods=True, joining=Joining("hub.example.org:30442", HASH, "id.secret")
)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="NO KUBECTL: nothing is rendered")
Object = dict[str, Any]


def rendered(directory: Path, place: AgentPlace = PLACE) -> list[Object]:
    return [item for item in yaml.safe_load_all(render(Installation(directory).agent(place))) if item]


def of_kind(made: list[Object], kind: str) -> list[Object]:
    return [item for item in made if item["kind"] == kind]


def pod_of(made: list[Object], kind: str) -> Object:
    (workload,) = of_kind(made, kind)
    return workload["spec"]["template"]["spec"]


def secrets_of(made: list[Object], pod: Object) -> dict[str, str]:
    """What the files say that a pod finds in its Secrets."""
    known = {item["metadata"]["name"]: item["data"] for item in of_kind(made, "Secret")}
    named = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    return {key: base64.b64decode(text).decode() for name in named for key, text in known[name].items()}


@needs_kubectl
def test_the_manifest_has_tokens_and_no_key_and_needs_no_authority(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    agent, node = (secrets_of(made, pod_of(made, kind)) for kind in ("Deployment", "DaemonSet"))
    assert agent.keys() == {"token", "node-token"}
    assert node.keys() == {"node-token"}, "no node can join as the agent"
    assert agent["token"] == "id.secret\n"
    assert agent["node-token"] == node["node-token"]
    assert hash_of(node["node-token"].strip(), "here") == HASH, "nodes know the authority, too"
    assert not list(tmp_path.rglob("*.pem"))


@needs_kubectl
def test_agent_and_nodes_are_told_where_to_join_and_find_each_other(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    (settings,) = (each["data"] for each in of_kind(made, "ConfigMap") if "bdw-fed-agent" in each["metadata"]["name"])
    (agent,), (node,) = (pod_of(made, kind)["containers"] for kind in ("Deployment", "DaemonSet"))
    words = [word.replace("$(WORKER_CPUS)", "2").replace("$(CPU_REQUESTS)", "1") for word in node["args"][1:]]
    for name, value in settings.items():
        agent["args"] = [word.replace(f"$({name})", value) for word in agent["args"]]
    told, its_nodes = parse(load("agent").command, agent["args"][1:]), parse(load("node").command, words)
    assert (told["join"], told["ca_hash"]) == ("hub.example.org:30442", HASH)
    assert told["credentials"] is its_nodes["credentials"] is None, (
        "below their own directories, where they are renewed"
    )
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in agent["volumeMounts"]}
    assert told["token_file"] == mounts["join"] / "token"
    assert told["node_token_file"] == mounts["join"] / "node-token"
    (service,) = (each["spec"] for each in of_kind(made, "Service") if each["metadata"]["name"] == "bdw-fed-agent")
    (port,) = [port for port in service["ports"] if its_nodes["join"] == f"bdw-fed-agent:{port['port']}"]
    (opened,) = [port for port in agent["ports"] if port["name"] == "join"]
    assert told["listen_join"] == f"0.0.0.0:{opened['containerPort']}"
    assert port["targetPort"] == "join"
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(made, "NetworkPolicy")}
    (rule,) = policies["bdw-fed-agent"]["ingress"]
    assert {"port": "join"} in rule["ports"]
    assert "from" in rule, "for the cluster's own nodes alone"


def test_a_new_token_makes_a_new_member_whose_nodes_are_let_in_anew_and_the_same_one_changes_nothing(
    tmp_path: Path,
) -> None:
    assert PLACE.joining is not None
    kept = Installation(tmp_path)
    token = kept.agent(PLACE) / "join" / "node-token"
    first = token.read_bytes()
    kept.agent(replace(PLACE, image="b:2"))
    assert token.read_bytes() == first
    kept.agent(replace(PLACE, joining=replace(PLACE.joining, token="id.other")))
    assert token.read_bytes() != first


def test_a_token_is_not_told_by_accident() -> None:
    assert "secret" not in repr(PLACE)


def test_a_cluster_s_name_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cluster \.\./other"):
        Installation(tmp_path / "kept").agent(replace(PLACE, cluster="../other"))
    assert not (tmp_path / "other").exists()


@needs_kubectl
@pytest.mark.parametrize("nodes", [(), ("w1", "w2")])
def test_daemons_are_on_the_named_nodes_alone_and_on_all_where_none_is_named(
    nodes: tuple[str, ...], tmp_path: Path
) -> None:
    made = rendered(tmp_path, replace(PLACE, nodes=nodes))
    affinity = pod_of(made, "DaemonSet").get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    (role,) = of_kind(made, "ClusterRole")
    assert [field["values"] for term in terms for field in term["matchFields"]] == [[node] for node in nodes]
    assert role["rules"][0].get("resourceNames", []) == list(nodes), "what may be read of the cluster's nodes"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--join", "h:30442", "--token", "t"], "--join: it takes --token or --token-file, and --ca-hash"),
        (["--join", "h:30442", "--ca-hash", HASH], "--join: it takes --token or --token-file, and --ca-hash"),
        (["--token", "t", "--ca-hash", HASH], "say where with --join"),
        ([], "--node: name at least one node"),
    ],
)
def test_what_is_missing_is_said(words: list[str], message: str, tmp_path: Path) -> None:
    verb = load("agent manifest").command
    with pytest.raises(UsageError, match=message):
        verb(**parse(verb, ["--directory", str(tmp_path), "--cluster", "edge1", "--hub", "h:1", *words]))
