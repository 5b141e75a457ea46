"""Workers that are pods: any image, from zero and back, none twice, none left."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kind_clusters import HERE, Clusters, done_of, until

from bdw_fed.client.runs import has_ended

pytestmark = pytest.mark.kind

SCRATCH = "bdw-fed-test/scratch:1"
TASKS = 51  # 100 and 50 numbers, three a unit


@pytest.fixture(scope="module")
def from_scratch(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    """The clusters, with an image on edge2 in which there is one program and nothing else."""
    if shutil.which("go") is None:
        pytest.skip("NO GO ON PATH: the program is not built, so AN IMAGE FROM SCRATCH IS NOT TRIED")
    place = tmp_path_factory.mktemp("scratch")
    source = HERE / "pods" / "scratch"
    build = ["go", "build", "-trimpath", "-o", str(place / "upper"), str(source / "main.go")]
    subprocess.run(build, env={**os.environ, "CGO_ENABLED": "0"}, check=True, capture_output=True)
    dockerfile = ["--file", str(source / "Dockerfile"), "--tag", SCRATCH]
    subprocess.run(["docker", "build", "--quiet", *dockerfile, str(place)], check=True, capture_output=True)
    subprocess.run(["kind", "load", "docker-image", SCRATCH, "--name", "edge2"], check=True, capture_output=True)
    return clusters


@pytest.fixture(scope="module", autouse=True)
def doomed(clusters: Clusters) -> str:
    """A run whose image does not exist: its registry is given a minute, in which the other tests go on."""
    return clusters.federation.submit("no-such-image")


@contextmanager
def seen(clusters: Clusters, cluster: str, selector: str) -> Iterator[set[str]]:
    """All pods that a selector finds on a cluster at any time within, by name; complete once it is left."""
    names: set[str] = set()
    config = ["--kubeconfig", str(clusters.state / "kubeconfig"), "--context", f"kind-{cluster}", "-n", "bdw-fed"]
    words = ["get", "pods", "-l", selector, "--watch", "-o", "name"]
    with subprocess.Popen(["kubectl", *config, *words], stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield names
        finally:
            watch.terminate()
            assert watch.stdout
            names.update(line.strip().removeprefix("pod/") for line in watch.stdout)


def test_a_program_that_is_all_of_its_image_is_executed(from_scratch: Clusters, tmp_path: Path) -> None:
    described = from_scratch.federation.run("from-scratch")
    assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
    outputs = from_scratch.federation.outputs(described["run"]["name"], tmp_path)
    assert sorted(outputs.values()) == [f"PARITY,NAME\n0,{edge}-EVEN\n1,{edge}-ODD\n" for edge in "AB"]


def test_a_pool_goes_from_zero_to_eight_pods_and_back_and_makes_no_more(clusters: Clusters, tmp_path: Path) -> None:
    selector = "bdw-fed.io/step=one-of-eight_1"
    assert not clusters.uids("edge2", selector)
    with seen(clusters, "edge2", selector) as pods:
        described = clusters.federation.run("eight-pods")
        assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
        until(lambda: not clusters.uids("edge2", selector), "pods are left that nobody has used for long")
    worked = clusters.federation.outputs(described["run"]["name"], tmp_path)["pods.txt"].split()
    assert len(worked) == TASKS
    assert len(set(worked)) == 8
    assert pods == set(worked)


@pytest.mark.fault
def test_warm_pods_are_adopted_by_the_next_daemon_and_go_on_with_their_tasks(
    clusters: Clusters, tmp_path: Path
) -> None:
    selector = "bdw-fed.io/step=kept-warm_1"
    with seen(clusters, "edge2", selector) as pods:
        described = clusters.federation.run("warm-pods")
        assert described["run"]["state"] == "RUN_STATE_SUCCEEDED", described["run"].get("message")
        before = clusters.uids("edge2", selector)
        assert before
        # One that is deleted while they are idle, and one in the middle of a run.
        clusters.kill("edge2", "bdw-fed-node")
        clusters.await_all_ready()
        assert clusters.uids("edge2", selector) == before
        run = clusters.federation.submit("warm-pods", seconds=1.5)
        reached = clusters.watch_until(run, lambda run: done_of(run).get("wait", 0) >= 1)
        assert not has_ended(reached), "the run was too quick to be disturbed"
        clusters.kill("edge2", "bdw-fed-node")
        clusters.wait(run)
        assert clusters.uids("edge2", selector) == before
    assert pods == set(before)
    assert set(clusters.federation.outputs(run, tmp_path)["pods.txt"].split()) == set(before)


def test_an_image_that_cannot_be_had_fails_the_run_in_words_that_name_it(doomed: str, clusters: Clusters) -> None:
    clusters.federation.call("wait", doomed, expect=(1,))
    described = clusters.federation.call("describe", "run", doomed)
    assert "registry.invalid/no/such-image:1" in described
    assert "can't be had" in described
    selector = "bdw-fed.io/step=no-such-image_1"
    until(lambda: not clusters.uids("cloud1", selector), "the pod that could not be started is left")
