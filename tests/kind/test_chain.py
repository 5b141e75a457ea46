"""The chain of the thesis over three Kubernetes clusters: each unit crosses once, and whatever is deleted in the middle
of a run changes none of its outputs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kind_clusters import NAMES, Clusters, under_way, until
from surroundings import UNITS
from thesis import check_outputs, told

pytestmark = pytest.mark.kind

BODY = "shuffle"
STEP = "bdw-fed.io/step=stage_1"


@pytest.fixture
def uncordoned(clusters: Clusters) -> Iterator[Clusters]:
    """The clusters, all of whose nodes take pods again after the test."""
    yield clusters
    for name in NAMES:
        for node in clusters.kubectl(name, "get", "nodes", "-o", "name").split():
            clusters.kubectl(name, "uncordon", node)
    clusters.await_all_ready()


def check(clusters: Clusters, run: str) -> None:
    """It ends, with the outputs of one process."""
    clusters.wait(run)
    check_outputs(clusters.federation, run, UNITS, BODY)


def test_each_unit_crosses_once(clusters: Clusters) -> None:
    run = clusters.federation.submit("chain")
    check(clusters, run)
    seen = told(clusters.federation, run)
    assert seen.twice == []
    assert seen.crossed == seen.least == 2 * UNITS * 1_000_000


@pytest.mark.fault
@pytest.mark.parametrize(
    ("cluster", "pod"),
    [
        ("cloud1", "bdw-fed-hub"),
        ("cloud1", "bdw-fed-etcd"),
        ("edge2", "bdw-fed-agent"),
        ("cloud1", "bdw-fed-agent"),
        ("edge2", "bdw-fed-node"),
    ],
)
def test_a_pod_of_ours_that_is_killed_in_the_middle_changes_no_output(
    cluster: str, pod: str, clusters: Clusters
) -> None:
    run = under_way(clusters)
    before = clusters.uids(cluster, f"app.kubernetes.io/name={pod}")
    clusters.kill(cluster, pod)
    assert not before.items() & clusters.uids(cluster, f"app.kubernetes.io/name={pod}").items()
    check(clusters, run)
    clusters.await_all_ready()


@pytest.mark.fault
def test_workers_pods_that_are_killed_in_the_middle_change_no_output(clusters: Clusters) -> None:
    run = under_way(clusters)
    before = clusters.uids("edge2", STEP)
    assert before
    clusters.kubectl("edge2", "delete", "pods", "-l", STEP, "--grace-period=0", "--force")
    assert not before.items() & clusters.uids("edge2", STEP).items()
    check(clusters, run)


@pytest.mark.fault
def test_a_node_that_is_drained_in_the_middle_changes_no_output(uncordoned: Clusters) -> None:
    clusters = uncordoned
    agent = clusters.kubectl("edge1", "get", clusters.pod("edge1", "bdw-fed-agent"), "-o", "jsonpath={.spec.nodeName}")
    node = next(name for name in ("edge1-worker", "edge1-worker2") if name != agent)
    run = under_way(clusters)
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
    clusters.kubectl("edge1", "drain", node, *options)
    check(clusters, run)
    of_node = f"app.kubernetes.io/name=bdw-fed-worker,bdw-fed.io/node={node}"
    until(lambda: not clusters.uids("edge1", of_node), f"there are pods of workers on {node}, which is cordoned")
