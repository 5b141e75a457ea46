"""What the topology says of a cluster, for its manifest: so that what is applied there is what was planned for."""

from __future__ import annotations

from pathlib import Path

from bdw_fed.embedded.topologies import read_one
from bdw_fed.manifests.errors import ManifestError
from topology.model import Cluster
from topology.nearest import did_you_mean


def declared(file: Path, cluster: str) -> Cluster:
    """The cluster of that name in a file with one topology. ManifestError, ProblemError."""
    _, topology = read_one(file, ManifestError)
    clusters = {each.name: each for each in topology.spec.clusters}
    if cluster not in clusters:
        remedy = did_you_mean(cluster, list(clusters), "its clusters are")
        raise ManifestError(f"{file}: there is no cluster {cluster}; {remedy}")
    return clusters[cluster]
