"""A cluster on Kubernetes becomes a member with a token, in the middle of a run, and its keys are made there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kind_clusters import Clusters, under_way, until
from surroundings import UNITS
from thesis import check_outputs

pytestmark = pytest.mark.kind

HUB, DOOR = "cloud1-control-plane:30443", "cloud1-control-plane:30442"
KEYS = {"deployment/bdw-fed-agent": "/var/lib/bdw-fed", "daemonset/bdw-fed-node": "/var/lib/bdw-fed/node"}


@pytest.fixture
def as_before(clusters: Clusters) -> Iterator[Clusters]:
    """The clusters, all with the credentials that `kind up` gives after the test."""
    yield clusters
    clusters.up()
    clusters.await_all_ready()


def has_joined(clusters: Clusters) -> bool:
    told = clusters.federation.ask("token", "list")
    return any(token["cluster"] == "edge2" and token["state"] == "used" for token in told)


def manifest(clusters: Clusters, directory: Path) -> str:
    """What an operator of edge2 prints with a new token. Of the workers' processors there is less than in a federation
    of machines, see `kind up`."""
    made = clusters.federation.ask("token", "create", "--cluster", "edge2")
    image = clusters.kubectl("edge2", "get", "deployment/bdw-fed-agent", "-o", "jsonpath={..containers[0].image}")
    words = ["--directory", str(directory), "--cluster", "edge2", "--hub", HUB, "--image", image]
    words += ["--join", DOOR, "--token", made["token"], "--ca-hash", made["authorityHash"], "--cpu-requests", "0.2"]
    return clusters.federation.call("agent", "manifest", *words)


def test_a_cluster_joins_in_the_middle_of_a_run_and_no_key_of_it_was_ever_outside(
    as_before: Clusters, tmp_path: Path
) -> None:
    clusters = as_before
    printed = manifest(clusters, tmp_path)
    assert "PRIVATE KEY" not in printed
    run = under_way(clusters)
    clusters.apply("edge2", printed)
    clusters.await_ready("edge2")
    for workload, directory in KEYS.items():
        kept = clusters.kubectl("edge2", "exec", workload, "--", "ls", f"{directory}/credentials").split()
        assert {"cert.pem", "key.pem", "ca.pem"} <= set(kept)
    until(lambda: has_joined(clusters), "the token has not been used")
    clusters.await_all_ready()
    clusters.wait(run)
    check_outputs(clusters.federation, run, UNITS, "shuffle")
