"""What a daemon takes from its own pod, so that workers' pods are where it is and of its kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster_agent.runtimes.base import Room, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.api.objects.meta import ObjectMeta, OwnerReference
from cluster_agent.runtimes.kubernetes.api.objects.pod import Container, Pod, PodSpec
from cluster_agent.runtimes.kubernetes.manifest import Settings, template
from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig, make_runtime, settings_of
from cluster_agent.runtimes.process.keep import Keeps
from tests.kubernetes.fake.server import FakeServer

STATE = Path("/var/lib/bdw-fed/node")
DEDICATED = {"key": "dedicated", "operator": "Equal", "value": "data", "effect": "NoSchedule"}
OWN = Pod(
    metadata=ObjectMeta(
        name="bdw-fed-node-x",
        owner_references=[
            OwnerReference(api_version="apps/v1", kind="DaemonSet", name="bdw-fed-node", uid="u1", controller=True)
        ],
    ),
    spec=PodSpec(
        containers=[Container(name="node", image="registry/bdw-fed:2")],
        tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}, DEDICATED],
        image_pull_secrets=[{"name": "registry"}],
    ),
)


def settings(config: KubernetesConfig, own: Pod | None = None, state: Path = STATE) -> Settings:
    return settings_of(config, "edge1", "n1", "team", state, None, own)


def test_our_own_pod_says_all_that_others_need() -> None:
    made = template(settings(KubernetesConfig(), OWN), WorkerSpec("clean-flights@1", argv=("true",))).manifest("0" * 12)
    spec = made["spec"]
    assert made["metadata"]["name"] == "clean-flights-1-000000000000"
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "bdw-fed-node", "uid": "u1"}
    ]
    assert spec["initContainers"][0]["image"] == spec["containers"][0]["image"] == "registry/bdw-fed:2"
    assert spec["tolerations"] == [DEDICATED], "a cordoned node gets no more pods"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["securityContext"]["runAsUser"] == os.getuid()


def test_outside_of_a_cluster_it_has_to_be_said() -> None:
    with pytest.raises(StartError, match="say --pod, the pod that we are, or --starter-image"):
        settings(KubernetesConfig())
    made = settings(KubernetesConfig(starter_image="ours:1", worker_image="python:3.11-slim"))
    assert (made.starter_image, made.worker_image, made.owner) == ("ours:1", "python:3.11-slim", None)


def test_a_directory_whose_sockets_would_have_no_room_is_told() -> None:
    config = KubernetesConfig(starter_image="ours:1")
    settings(config, state=Path("/" + "x" * 74))
    with pytest.raises(StartError, match=r"may have 75 bytes at most"):
        settings(config, state=Path("/" + "x" * 75))


def test_equal_steps_have_equal_templates_and_others_have_not() -> None:
    made = settings(KubernetesConfig(), OWN)
    spec = WorkerSpec("s@1", argv=("true",), memory=1 << 30, cpus=0.5)
    assert template(made, spec).key == template(made, WorkerSpec("s@1", argv=("true",), memory=1 << 30, cpus=0.5)).key
    others = [
        WorkerSpec("s@2", argv=("true",), memory=1 << 30, cpus=0.5),
        WorkerSpec("s@1", argv=("true",), memory=1 << 29, cpus=0.5),
        WorkerSpec("s@1", argv=("true",), memory=1 << 30, cpus=0.25),
        WorkerSpec("s@1", argv=("true",), memory=1 << 30, cpus=0.5, image="python:3.11-slim"),
        WorkerSpec("s@1", argv=("true",), memory=1 << 30, cpus=0.5, bundle=STATE / "bundles" / "00"),
    ]
    assert len({template(made, each).key for each in (spec, *others)}) == 6


@pytest.mark.parametrize("definition", ["", "@", "Ä" * 30, "x" * 200 + "@1.2.3", "a_b.c@2"])
def test_names_and_labels_are_such_as_kubernetes_takes(definition: str) -> None:
    made = template(settings(KubernetesConfig(), OWN), WorkerSpec(definition, argv=("true",))).manifest("0" * 12)
    name = made["metadata"]["name"]
    assert len(name) <= 63
    assert name.isascii()
    assert name == name.lower().strip("-")
    assert all(character.isalnum() or character == "-" for character in name)
    for value in made["metadata"]["labels"].values():
        assert len(value) <= 63
        assert not value or (value[0].isalnum() and value[-1].isalnum())


def test_a_pod_asks_for_the_part_of_its_step_s_processors_that_the_operator_lets_it() -> None:
    for part, asked in ((1.0, "500m"), (0.4, "200m"), (1e-6, "1m")):
        made = template(
            settings(KubernetesConfig(cpu_requests=part), OWN),
            WorkerSpec("s@1", argv=("true",), cpus=0.5, memory=1 << 30),
        ).manifest("0" * 12)
        (worker,) = made["spec"]["containers"]
        (starter,) = made["spec"]["initContainers"]
        assert worker["resources"]["requests"] == starter["resources"]["requests"] == {"cpu": asked, "memory": "1Gi"}


async def test_a_pod_that_is_not_there_is_told(fake: FakeServer, tmp_path: Path) -> None:
    config = KubernetesConfig("fake", str(fake.kubeconfig), pod="we")
    with pytest.raises(StartError, match=r"our own pod can't be read, .*: can't get pods/we in team"):
        await make_runtime(config, "edge1", "n1", STATE, None, Keeps(tmp_path / "rows"), Room(0.0, 0))
    with pytest.raises(StartError, match="there is no kubeconfig at /nowhere"):
        await make_runtime(
            KubernetesConfig(kubeconfig="/nowhere"), "edge1", "n1", STATE, None, Keeps(tmp_path / "rows"), Room(0.0, 0)
        )
