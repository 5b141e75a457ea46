"""What we ask of an operator's cluster: no more rights than needed, and manifests that mean what our services take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bdw_fed.cli.arguments import parse
from bdw_fed.cli.verbs import load
from bdw_fed.manifests.installation import bases

Object = dict[str, Any]


def objects() -> Iterator[Object]:
    """All objects in the bases and components."""
    for path in sorted(bases().rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


OBJECTS = list(objects())
WORKLOADS = [item for item in OBJECTS if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet")]


def named(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def containers(workload: Object) -> list[Object]:
    spec = workload["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_there_are_hub_etcd_agent_node_and_relay() -> None:
    assert {named(item) for item in WORKLOADS} == {
        "Deployment/bdw-fed-hub",
        "StatefulSet/bdw-fed-etcd",
        "Deployment/bdw-fed-agent",
        "DaemonSet/bdw-fed-node",
        "Deployment/bdw-fed-relay",
    }


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_no_pod_has_more_rights_than_it_needs(workload: Object) -> None:
    spec = workload["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in containers(workload):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in security
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


def test_one_container_alone_starts_as_root_and_may_do_nothing_but_hand_a_directory_over() -> None:
    roots = [one for work in WORKLOADS for one in containers(work) if one["securityContext"].get("runAsUser") == 0]
    (root,) = roots
    assert root["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert root["command"][0] == "chown"
    added = [one for work in WORKLOADS for one in containers(work) if "add" in one["securityContext"]["capabilities"]]
    assert added == [root]


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_every_service_is_probed_at_a_port_that_it_has(workload: Object) -> None:
    for container in workload["spec"]["template"]["spec"]["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] in ports, probe
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_our_services_take_the_arguments_that_the_manifests_give_them() -> None:
    seen = set()
    for workload in WORKLOADS:
        for container in workload["spec"]["template"]["spec"]["containers"]:
            if container["image"] != "bdw-fed":
                continue
            verb, *words = container["args"]
            # What the settings fill in; only numbers matter to the reading of a command line.
            told = parse(load(verb).command, [word.replace("$(WORKER_CPUS)", "2") for word in words])
            assert told["listen_health"]
            seen.add(verb)
    assert seen == {"server", "agent", "node", "relay"}


def test_every_setting_in_an_argument_is_one_that_the_base_defines() -> None:
    settings: dict[str, set[str]] = {}
    for path in bases().rglob("kustomization.yaml"):
        for made in yaml.safe_load(path.read_text()).get("configMapGenerator", []):
            settings[made["name"]] = {literal.partition("=")[0] for literal in made["literals"]}
    for workload in WORKLOADS:
        for container in workload["spec"]["template"]["spec"]["containers"]:
            known = {entry["name"] for entry in container.get("env", [])}
            for source in container.get("envFrom", []):
                known |= settings[source["configMapRef"]["name"]]
            text = " ".join(container.get("args", []))
            used = {part.partition(")")[0] for part in text.split("$(")[1:]}
            assert used <= known


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_what_selects_pods_finds_those_of_a_workload(workload: Object) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    name = labels["app.kubernetes.io/name"]
    policies = [one for one in OBJECTS if one["kind"] == "NetworkPolicy"]
    assert any(one["spec"]["podSelector"]["matchLabels"] == labels for one in policies), f"{name} has no policy"


def test_who_may_come_in_is_said_for_every_pod_by_a_label_that_pods_have() -> None:
    known = {work["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"] for work in WORKLOADS}
    for policy in (item for item in OBJECTS if item["kind"] == "NetworkPolicy"):
        assert "Ingress" in policy["spec"]["policyTypes"]
        for rule in [*policy["spec"]["ingress"], *policy["spec"].get("egress", [])]:
            for end in [*rule.get("from", []), *rule.get("to", [])]:
                assert end["podSelector"]["matchLabels"]["app.kubernetes.io/name"] in known


def test_etcd_lets_nobody_in_but_the_hub() -> None:
    (policy,) = [one for one in OBJECTS if named(one) == "NetworkPolicy/bdw-fed-etcd"]
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "bdw-fed-hub"}}}]
    assert policy["spec"]["egress"] == []


def test_rights_name_their_verbs_and_nothing_of_the_whole_cluster_can_be_changed() -> None:
    roles = [item for item in OBJECTS if item["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert not {"secrets", "pods/exec", "roles"} & set(rule["resources"])
            if role["kind"] == "ClusterRole":
                assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_the_bases_stand_in_the_repository_once() -> None:
    assert bases() == Path(__file__).parents[2] / "deploy" / "kubernetes"
