"""An installation's overlays: who gets which credentials, and which doors are open."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from bdw_fed.cli.arguments import parse
from bdw_fed.cli.exits import UsageError
from bdw_fed.cli.verbs import load
from bdw_fed.manifests.declared import declared
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.installation import Installation, bases, render
from bdw_fed.manifests.overlays import AgentPlace, HubPlace, RelayPlace, agent_overlay, hub_overlay

PLACE = AgentPlace(cluster="edge1", hub="hub.example.org:30443", nodes=("w1", "w2"), image="registry.example/b:1.2")


def uri_of(certificate: Path) -> str:
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    alternatives = names.get_extension_for_class(x509.SubjectAlternativeName).value
    return alternatives.get_values_for_type(x509.UniformResourceIdentifier)[0]


def test_every_node_gets_a_certificate_of_its_own_and_its_pod_sees_no_other(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "kept")
    installation.hub(HubPlace(image="b:1"))
    overlay = installation.agent(PLACE)
    for node in PLACE.nodes:
        assert uri_of(overlay / "nodes" / node / "cert.pem") == f"bdw-fed://node/edge1/{node}"
    assert uri_of(overlay / "agent" / "cert.pem") == "bdw-fed://agent/edge1"
    written = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    patch = yaml.safe_load(written["patches"][0]["patch"])
    (volume,) = patch["spec"]["template"]["spec"]["volumes"]
    paths = {item["path"] for item in volume["secret"]["items"]}
    assert paths == {f"{node}/{file}" for node in ("w1", "w2") for file in ("cert.pem", "key.pem", "ca.pem")}


def test_the_authorities_keys_are_in_no_secret_unless_clusters_are_to_join(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    for overlay in (installation.hub(HubPlace(image="b:1")), installation.agent(PLACE)):
        assert "ca-key" not in (overlay / "kustomization.yaml").read_text()
        assert not list(overlay.rglob("ca-key.pem"))
    joined = installation.hub(HubPlace(image="b:1", join=True))
    (secret,) = [
        each
        for each in yaml.safe_load((joined / "kustomization.yaml").read_text())["secretGenerator"]
        if any("ca-key" in file for file in each["files"])
    ]
    assert secret["name"] == "bdw-fed-authority"
    key = joined / "authority" / "ca-key.pem"
    assert key.read_bytes() == (tmp_path / "ca" / "ca-key.pem").read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_etcd_s_authority_certifies_nobody_but_etcd_and_the_hub(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    overlay = installation.hub(HubPlace(image="b:1"))
    cluster = installation.agent(PLACE)
    of_etcd, of_all = (overlay / "etcd" / "ca.pem").read_bytes(), (overlay / "hub" / "ca.pem").read_bytes()
    assert of_etcd != of_all
    assert (overlay / "etcd-client" / "ca.pem").read_bytes() == of_etcd
    assert (cluster / "agent" / "ca.pem").read_bytes() == of_all


def test_made_again_it_is_the_same_as_long_as_certificates_are_good(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.hub(HubPlace(image="b:1"))
    first = {path: path.read_bytes() for path in installation.agent(PLACE).rglob("*") if path.is_file()}
    again = {path: path.read_bytes() for path in installation.agent(PLACE).rglob("*") if path.is_file()}
    assert first == again


def test_only_the_owner_can_read_an_installation(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    Installation(kept).hub(HubPlace(image="b:1"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def test_without_a_hub_s_authority_no_agent_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="server manifest"):
        Installation(tmp_path).agent(PLACE)


def test_a_node_whose_name_can_t_be_in_a_certificate_is_refused(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.hub(HubPlace(image="b:1"))
    with pytest.raises(ManifestError, match="W1"):
        installation.agent(AgentPlace(cluster="edge1", hub="h:1", nodes=("W1",), image="b:1"))


def test_a_relay_has_a_certificate_that_says_so_and_no_other_secret(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with pytest.raises(ManifestError, match="server manifest"):
        installation.relay(RelayPlace(name="r1", image="b:1"))
    installation.hub(HubPlace(image="b:1"))
    overlay = installation.relay(RelayPlace(name="r1", image="b:1"))
    assert uri_of(overlay / "relay" / "cert.pem") == "bdw-fed://relay/r1"
    written = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    (secret,) = written["secretGenerator"]
    assert secret["files"] == [f"{file}=relay/{file}" for file in ("cert.pem", "key.pem", "ca.pem")]
    assert "RELAY=r1" in written["configMapGenerator"][0]["literals"]
    with pytest.raises(ManifestError, match="relay R1"):
        installation.relay(RelayPlace(name="R1", image="b:1"))


def test_a_cluster_that_nobody_dials_has_a_door_for_those_who_fetch_outputs_and_without_it_none() -> None:
    assert agent_overlay(PLACE, "bases")["components"] == ["bases/components/data-door"]
    assert "components" not in agent_overlay(replace(PLACE, data_door=False), "bases")


def test_what_is_fetched_from_outside_is_at_an_address_of_the_node_and_not_of_its_pod() -> None:
    component = yaml.safe_load((bases() / "components" / "data-door" / "kustomization.yaml").read_text())
    patch = yaml.safe_load(component["patches"][0]["patch"])
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    (entry,) = container["env"]
    (port,) = container["ports"]
    node = next(yaml.safe_load_all((bases() / "agent" / "node.yaml").read_text()))["spec"]["template"]["spec"]
    (base,) = (one for one in node["containers"] if one["name"] == container["name"])
    assert f"--advertise-data=$({entry['name']}):{port['hostPort']}" in base["args"]
    assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP"
    assert f"--listen-data=0.0.0.0:{port['containerPort']}" in base["args"]


def test_a_cluster_that_is_dialled_says_where() -> None:
    place = AgentPlace(cluster="edge1", hub="h:1", nodes=("w1",), image="b:1", advertise_peers="edge1:30445")
    content = agent_overlay(place, "bases")
    assert content["components"] == ["bases/components/data-door", "bases/components/open-doors"]
    assert agent_overlay(replace(place, data_door=False), "bases")["components"] == content["components"]
    assert "ADVERTISE_PEERS=edge1:30445" in content["configMapGenerator"][0]["literals"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("bdw-fed:1.0", {"newName": "bdw-fed", "newTag": "1.0"}),
        ("registry.example:5000/a/bdw-fed", {"newName": "registry.example:5000/a/bdw-fed", "newTag": "latest"}),
        ("r.example/b@sha256:00", {"newName": "r.example/b", "digest": "sha256:00"}),
    ],
)
def test_an_image_is_named_with_registry_tag_or_digest(image: str, expected: dict[str, str]) -> None:
    assert hub_overlay(HubPlace(image=image), "bases")["images"] == [{"name": "bdw-fed", **expected}]


def test_workers_that_are_pods_are_asked_for_by_a_component_and_no_right_is_given_without_it(tmp_path: Path) -> None:
    assert "bases/components/worker-pods" not in agent_overlay(PLACE, "bases")["components"]
    assert "bases/components/worker-pods" in agent_overlay(replace(PLACE, pods=True), "bases")["components"]
    component = yaml.safe_load((bases() / "components" / "worker-pods" / "kustomization.yaml").read_text())
    merged, appended = (yaml.safe_load(patch["patch"]) for patch in component["patches"])
    spec = merged["spec"]["template"]["spec"]
    # What the daemon writes for a pod has the same path in it: the daemon's own mounts are where the node has them.
    node = next(yaml.safe_load_all((bases() / "agent" / "node.yaml").read_text()))["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume.get("hostPath", {}).get("path") for volume in node["volumes"] + spec["volumes"]}
    container = node["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    words = [*container["args"][1:], *(entry["value"] for entry in appended)]
    numbers = {"$(WORKER_CPUS)": "2", "$(CPU_REQUESTS)": "0.5"}
    for setting, number in numbers.items():
        words = [word.replace(setting, number) for word in words]
    told = parse(load("node").command, words)
    assert told["runtime"] == "kubernetes"
    assert mounts["state"] == volumes["state"] == str(told["directory"])
    assert mounts["memory"] == volumes["memory"] == told["memory_directory"]


TOPOLOGY = """\
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: z, tier: edge}]
  clusters:
    - {name: plain, zone: z, runtime: process, nodes: [{name: w1}]}
    - {name: pods, zone: z, runtime: {kubernetes: {namespace: work}}}
"""


def printed(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """The components and the namespace of what `agent manifest WORDS` prints."""
    overlays: list[Path] = []
    monkeypatch.setattr("bdw_fed.manifests.installation.render", lambda overlay: overlays.append(overlay) or "")
    Installation(tmp_path / "kept").hub(HubPlace(image="b:1"))
    verb = load("agent manifest").command
    given = ["--directory", str(tmp_path / "kept"), "--hub", "h:1", "--node", "w1", *words]
    assert verb(**parse(verb, given)) == 0
    written = yaml.safe_load((overlays[0] / "kustomization.yaml").read_text())
    return [Path(name).name for name in written.get("components", [])], written["namespace"]


def test_what_workers_are_and_where_is_as_the_topology_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    told = ["--topology", str(file), "--cluster"]
    assert printed([*told, "pods"], tmp_path, monkeypatch) == (["data-door", "worker-pods"], "work")
    assert printed([*told, "plain"], tmp_path, monkeypatch) == (["data-door"], "bdw-fed")
    asked = ["--runtime", "process", "--closed", "--kubernetes-namespace", "other"]
    assert printed([*told, "pods", *asked], tmp_path, monkeypatch) == ([], "other")


def test_on_kubernetes_workers_are_pods_unless_something_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(["--cluster", "c"], tmp_path, monkeypatch) == (["data-door", "worker-pods"], "bdw-fed")


def test_a_cluster_that_the_topology_has_not_is_named_with_those_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    assert declared(file, "pods").name == "pods"
    with pytest.raises(ManifestError, match=r"topology\.yaml: there is no cluster pots; did you mean pods\?"):
        declared(file, "pots")
    with pytest.raises(ManifestError, match=r"missing\.yaml: .*expected a YAML file"):
        declared(tmp_path / "missing.yaml", "pods")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders")
def test_where_clusters_join_the_hub_is_rendered_with_its_second_door(tmp_path: Path) -> None:
    rendered = render(Installation(tmp_path).hub(HubPlace(image="b:1", join=True)))
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}
    service = objects["Service", "bdw-fed-hub"]["spec"]
    assert {port["name"]: port.get("nodePort") for port in service["ports"]} == {"hub": 30443, "join": 30442}
    pod = objects["Deployment", "bdw-fed-hub"]["spec"]["template"]["spec"]
    values = parse(load("server").command, pod["containers"][0]["args"][1:])
    assert values["authority"] == Path("/etc/bdw-fed/authority")
    (secret,) = [name for kind, name in objects if kind == "Secret" and name.startswith("bdw-fed-authority")]
    assert secret in [volume.get("secret", {}).get("secretName") for volume in pod["volumes"]]
    (policy,) = objects["NetworkPolicy", "bdw-fed-hub"]["spec"]["ingress"]
    assert [port["port"] for port in policy["ports"]] == ["hub", "join"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="NO KUBECTL: what the overlays make is not tested")
def test_the_one_right_in_the_whole_cluster_is_to_read_the_nodes_that_work_and_is_each_federations_own(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path)
    installation.hub(HubPlace(image="b:1"))
    place = replace(PLACE, pods=True, namespace="team", cpus=0.0, memory=0)
    made = [item for item in yaml.safe_load_all(render(installation.agent(place))) if item]
    roles = [item for item in made if item["kind"].startswith("ClusterRole")]
    role, binding = sorted(roles, key=lambda item: str(item["kind"]))
    assert role["metadata"]["name"] == binding["metadata"]["name"] == binding["roleRef"]["name"] == "bdw-fed-node-team"
    (rule,) = role["rules"]
    assert (rule["resources"], set(rule["verbs"])) == (["nodes"], {"get", "list", "watch"})
    assert rule["resourceNames"] == ["w1", "w2"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "bdw-fed-node", "namespace": "team"}]
    (config,) = [item for item in made if item["kind"] == "ConfigMap" and "bdw-fed-node" in item["metadata"]["name"]]
    assert (config["data"]["WORKER_CPUS"], config["data"]["WORKER_MEMORY"]) == ("0", "0"), "what each node has"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="NO KUBECTL: what the overlays make is not tested")
@pytest.mark.parametrize("trusted", [False, True])
def test_the_door_without_tls_is_open_only_where_it_is_asked_for_and_has_one_number_inside_and_outside(
    tmp_path: Path, trusted: bool
) -> None:
    installation = Installation(tmp_path)
    installation.hub(HubPlace(image="b:1"))
    place = replace(PLACE, advertise_peers="edge1:30445", trusted=trusted)
    made = [item for item in yaml.safe_load_all(render(installation.agent(place))) if item]
    (daemons,) = [item for item in made if item["kind"] == "DaemonSet"]
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    words = [word.replace("$(WORKER_CPUS)", "2") for word in container["args"][1:]]
    ports = {port["name"]: (port["containerPort"], port.get("hostPort")) for port in container["ports"]}
    told = parse(load("node").command, words)["plain_port"]
    assert (told, ports.get("plain")) == ((7448, (7448, 7448)) if trusted else (0, None))
    policies = {item["metadata"]["name"]: item for item in made if item["kind"] == "NetworkPolicy"}
    open_to_all = [rule for rule in policies["bdw-fed-node"]["spec"]["ingress"] if "from" not in rule]
    assert [rule["ports"] for rule in open_to_all] == [[{"port": "data"}], [{"port": "plain"}]][: 1 + trusted]
    without = agent_overlay(replace(PLACE, trusted=True), "bases")["components"]
    assert "bases/components/trusted-door" not in without, "no door without the other"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpu-requests", "0"], "--cpu-requests: 0 is not a part"),
        (["--cpu-requests", "1.5"], "--cpu-requests: 1.5 is not a part"),
        (["--closed", "--advertise-peers", "edge1:30445"], "--closed: other clusters dial this one"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=message):
        printed(["--cluster", "c", *words], tmp_path, monkeypatch)
