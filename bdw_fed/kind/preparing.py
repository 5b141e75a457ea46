"""Before anything is made: what is asked for, compared with what is there, and written into the state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bdw_fed.embedded.datasets import with_sizes
from bdw_fed.embedded.errors import EmbeddedError
from bdw_fed.embedded.ports import choose_ports
from bdw_fed.embedded.topologies import read_one
from bdw_fed.kind import clusters, datasets
from bdw_fed.kind.environment import Environment, as_made, environment_of, fitted, with_cpus
from bdw_fed.kind.errors import KindError, NotMadeError
from bdw_fed.kind.programs import require
from bdw_fed.kind.state import Cluster, State, read_state
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.storing import Storing, storing
from topology.model import Topology

DEFAULT = Path(__file__).with_name("examples.yaml")
EXAMPLES = Path(__file__).parents[2] / "examples"
_MAKING_THE_DATA = (
    ". The examples' own makes: python examples/flights/prepare.py && python examples/thesis-chain/prepare.py"
)
_SPARE = 1 << 30  # of the machine's memory, for everything else


@dataclass(frozen=True)
class Wishes:
    """What the user asked for. `node_image` empty: kind's own; `image` empty: built here; `load`: images of steps;
    `storage_credentials`: the directory with those that the topology's storage names."""

    topology: Path | None
    data: Path | None
    node_image: str
    image: str
    load: tuple[str, ...] = ()
    storage_credentials: Path | None = None


@dataclass(frozen=True)
class Ground:
    """What the steps stand on: the environment, its state, the topology's text as it will be applied, and what the
    nodes of its clusters have beside their disks."""

    environment: Environment
    state: State
    text: str
    storage: Mapping[str, Storing]


def prepare(directory: Path, wishes: Wishes) -> Ground:
    """Read the topology, compare it with what is there already, and write the state. KindError, ProblemError."""
    require()
    file = wishes.topology or DEFAULT
    text, topology = read_one(file, KindError)
    environment = environment_of(topology)
    storage = _storage(topology, wishes.storage_credentials)
    data_root = (wishes.data or _default_data(wishes.topology)).resolve()
    for member in environment.members:
        datasets.require(member, data_root, "" if wishes.topology else _MAKING_THE_DATA)
    state = _state(directory, file, text, data_root, environment.hub)
    there = clusters.existing()
    for gone in (cluster for cluster in state.clusters if cluster.name not in there):
        gone.whole, gone.images = False, {}
    made = {cluster.name: cluster for cluster in state.clusters}
    if made:  # nodes are never added later
        members = (replace(member, workers=made[member.name].workers) for member in environment.members)
        environment = with_cpus(replace(environment, members=tuple(members)), os.cpu_count() or 1)
    else:
        environment = _fitting(environment)
        refuse_foreign(environment, there)
        state.clusters = [Cluster(member.name, member.workers) for member in environment.members]
        state.save()
    return Ground(environment, state, with_sizes(as_made(text, environment), data_root), storage)


def _storage(topology: Topology, credentials: Path | None) -> dict[str, Storing]:
    try:
        found = {
            cluster.name: storing(cluster, credentials, pods=cluster.runtime.kind == "kubernetes")
            for cluster in topology.spec.clusters
        }
    except ManifestError as error:
        raise KindError(str(error)) from error
    return {name: each for name, each in found.items() if each is not None}


def _default_data(topology: Path | None) -> Path:
    """Beside the topology; of the built-in one in the repository."""
    return topology.parent if topology else EXAMPLES


def _state(directory: Path, file: Path, text: str, data_root: Path, hub: str) -> State:
    try:
        state = read_state(directory)
    except NotMadeError:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise KindError(f"{directory} is not empty and has no environment; name another with --state") from None
        try:
            port = choose_ports(["hub"], {})["hub"]
        except EmbeddedError as error:
            raise KindError(str(error)) from error
        return State(directory, text, str(file), str(data_root), hub, port)
    if state.topology != text:
        raise KindError(
            f"an environment of another topology ({state.file}) is in {directory}; "
            "delete it with 'bdw-fed kind down', or name another directory with --state"
        )
    state.data_root = str(data_root)
    return state


def refuse_foreign(environment: Environment, there: set[str]) -> None:
    """KindError where clusters that are to be made are there already."""
    foreign = sorted(there & {member.name for member in environment.members})
    if foreign:
        raise KindError(
            f"kind has clusters already that were not made here: {', '.join(foreign)}. They are left alone: "
            f"delete them with 'kind delete clusters {' '.join(foreign)}', or call those of the topology differently"
        )


def _fitting(environment: Environment) -> Environment:
    available = _available_memory() - _SPARE
    smaller = fitted(environment, available, os.cpu_count() or 1)
    if smaller is None:
        raise KindError(
            f"{len(environment.members)} clusters need about {environment.bytes_needed >> 20} MiB of memory, and "
            f"{max(0, available) >> 20} MiB are to be had: end other programs, or take a topology with fewer clusters"
        )
    return smaller


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise KindError("/proc/meminfo does not say how much memory is available")
