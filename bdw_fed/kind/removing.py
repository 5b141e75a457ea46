"""Taking the environment away: the clusters that were made here, and what is kept about them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from bdw_fed.kind import clusters
from bdw_fed.kind.errors import NotMadeError
from bdw_fed.kind.state import ARCHIVE, Cluster, State, read_state
from bdw_fed.kind.steps import Step, carry_out


def down(directory: Path) -> list[str]:
    """Delete the clusters that were made here, and what is kept about them. Returns their names."""
    try:
        state = read_state(directory)
    except NotMadeError:
        return []
    there = clusters.existing()
    names = [cluster.name for cluster in state.clusters if cluster.begun]
    ours = [cluster for cluster in state.clusters if cluster.begun and cluster.name in there]
    deletions = [Step(cluster.name, partial(_delete, state, cluster)) for cluster in ours]
    for _ in carry_out(deletions, at_once=max(1, len(deletions))):
        pass
    forget(directory)
    return names


def _delete(state: State, cluster: Cluster) -> str:
    clusters.delete(cluster.name)
    cluster.begun = False
    state.save()
    return ""


def forget(directory: Path) -> None:
    """Remove what is kept of an environment whose clusters are gone."""
    for name in ("ca", "etcd-ca", "credentials", "hub", "clusters"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("kubeconfig", "profile.json", ARCHIVE, "kind.json"):
        (directory / name).unlink(missing_ok=True)
