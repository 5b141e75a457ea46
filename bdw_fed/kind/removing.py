"""Taking the environment away: the clusters that were made here, and what is kept about them."""

from __future__ import annotations

import shutil
from pathlib import Path

from bdw_fed.kind import clusters
from bdw_fed.kind.errors import NotMadeError
from bdw_fed.kind.state import read_state


def down(directory: Path) -> list[str]:
    """Delete the clusters that were made here, and what is kept about them. Returns their names."""
    try:
        state = read_state(directory)
    except NotMadeError:
        return []
    there = clusters.existing()
    names = [cluster.name for cluster in state.clusters if cluster.begun]
    for cluster in list(state.clusters):
        if cluster.begun and cluster.name in there:
            clusters.delete(cluster.name, state.kubeconfig)
        state.clusters.remove(cluster)
        state.save()
    forget(directory)
    return names


def forget(directory: Path) -> None:
    """Remove what is kept of an environment whose clusters are gone."""
    for name in ("ca", "etcd-ca", "credentials", "hub", "clusters"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("kubeconfig", "profile.json", "kind.json"):
        (directory / name).unlink(missing_ok=True)
