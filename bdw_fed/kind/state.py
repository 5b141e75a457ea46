"""What was made here, kept in a file, so that the next command finds it and `down` deletes that and nothing else.

A cluster is marked before it is made and when it is whole: one that was begun and is not whole is made anew.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bdw_fed.kind.errors import KindError, NotMadeError

FILE = "kind.json"
KUBECONFIG = "kubeconfig"
ARCHIVE = "images.tar"  # while images are loaded
_SAVING = threading.Lock()


@dataclass
class Cluster:
    """A kind cluster of ours."""

    name: str
    workers: int
    begun: bool = False  # kind was told to make it
    whole: bool = False
    images: dict[str, str] = field(default_factory=dict)  # that were loaded into its nodes: name -> what it was then


@dataclass
class State:
    """The environment in `directory`."""

    directory: Path
    topology: str  # its text, as its author wrote it
    file: str
    data_root: str
    hub: str  # the cluster that it is in
    hub_port: int
    clusters: list[Cluster] = field(default_factory=list)
    partitions: list[tuple[str, str]] = field(default_factory=list)
    links: dict[str, float] = field(default_factory=dict)  # "a b" -> bytes a second

    @property
    def kubeconfig(self) -> Path:
        """Of all its clusters; contexts are called kind-NAME."""
        return self.directory / KUBECONFIG

    def cluster(self, name: str) -> Cluster:
        """The one of that name. KindError lists those that there are."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        names = ", ".join(cluster.name for cluster in self.clusters)
        raise KindError(f"there is no cluster {name} in {self.directory}; the clusters are {names or 'none'}")

    def save(self) -> None:
        """Write it, whole or not at all."""
        with _SAVING:  # steps that are done at the same time save what each has done
            content = {**asdict(self), "directory": None}
            fresh = self.directory / f".{FILE}.{os.getpid()}"
            fresh.write_text(json.dumps(content, indent=1) + "\n")
            fresh.replace(self.directory / FILE)


def read_state(directory: Path) -> State:
    """The environment that was made in `directory`. NotMadeError, KindError."""
    path = directory / FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        content["directory"] = directory
        content["clusters"] = [Cluster(**cluster) for cluster in content["clusters"]]
        content["partitions"] = [(a, b) for a, b in content["partitions"]]
        return State(**content)
    except FileNotFoundError as error:
        raise NotMadeError(f"there is no kind environment in {directory}; make one with 'bdw-fed kind up'") from error
    except (ValueError, TypeError, KeyError) as error:
        raise KindError(f"{path} can't be read ({error}); delete the clusters with 'kind delete clusters'") from error


def default_directory() -> Path:
    """BDW_FED_KIND_STATE, else kind's own beside that of `bdw-fed up`."""
    named = os.environ.get("BDW_FED_KIND_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "bdw-fed-kind"
