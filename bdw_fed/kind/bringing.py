"""Bringing the environment up: the steps in their order, each of which does only what is missing.

`plan` says which steps there are, from the topology and the state; `Step.do` carries one out and says in a few words
what it did. Whoever runs them shows how far they are. A step that fails leaves the state as it is: the next `up` plans
the same steps, and those that are done find that they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bdw_fed.client.connection import Profile
from bdw_fed.embedded.datasets import with_sizes
from bdw_fed.embedded.errors import EmbeddedError
from bdw_fed.embedded.ports import LOOPBACK, choose_ports
from bdw_fed.embedded.topologies import check
from bdw_fed.kind import clusters, datasets, deployment, images, network
from bdw_fed.kind.environment import Environment, Member, agent_place, as_made, environment_of, fitted
from bdw_fed.kind.errors import KindError, NotMadeError
from bdw_fed.kind.programs import require
from bdw_fed.kind.settling import apply_topology, await_members
from bdw_fed.kind.state import Cluster, State, read_state
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.installation import Installation
from bdw_fed.manifests.overlays import HubPlace

if TYPE_CHECKING:
    from topology.model import Topology

DEFAULT = Path(__file__).with_name("examples.yaml")
EXAMPLES = Path(__file__).parents[2] / "examples"
_SPARE = 1 << 30  # of the machine's memory, for everything else


@dataclass(frozen=True)
class Step:
    """One step: what it is about, and what does it; `do` returns what there is to say of it."""

    name: str
    do: Callable[[], str]


@dataclass(frozen=True)
class Wishes:
    """What the user asked for. `node_image` empty: kind's own; `image` empty: built here; `load`: images of steps."""

    topology: Path | None
    data: Path | None
    node_image: str
    image: str
    load: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """What the steps stand on: the environment, its state, and the topology's text as it will be applied."""

    environment: Environment
    state: State
    text: str


def prepare(directory: Path, wishes: Wishes) -> Ground:
    """Read the topology, compare it with what is there already, and write the state. KindError, ProblemError."""
    require()
    file = wishes.topology or DEFAULT
    try:
        text = file.read_text()
    except OSError as error:
        raise KindError(f"{file}: {error.strerror}; expected a YAML file with a topology") from error
    environment = environment_of(_only(check(text, str(file)), str(file)))
    data_root = (wishes.data or _default_data(wishes.topology)).resolve()
    for member in environment.members:
        datasets.require(member, data_root)
    state = _state(directory, file, text, data_root, environment.hub)
    made = {cluster.name: cluster for cluster in state.clusters}
    if made:  # nodes are never added later
        members = (replace(member, workers=made[member.name].workers) for member in environment.members)
        environment = replace(environment, members=tuple(members))
    else:
        environment = _fitting(environment)
        _refuse_foreign(environment, clusters.existing())
        state.clusters = [Cluster(member.name, member.workers) for member in environment.members]
        state.save()
    return Ground(environment, state, with_sizes(as_made(text, environment), data_root))


def plan(ground: Ground, wishes: Wishes) -> list[Step]:
    """All steps from nothing to a federation that is ready."""
    environment, state = ground.environment, ground.state
    installation = Installation(state.directory)
    image: list[str] = []  # filled by the first step
    steps = [Step("our image", partial(_image, wishes, image))]
    for member in environment.members:
        steps.append(Step(f"cluster {member.name}", partial(_cluster, ground, member, wishes)))
    for member in environment.members:
        steps.append(Step(f"images on {member.name}", partial(_load, state, member, image, wishes)))
        if member.files:
            steps.append(Step(f"data on {member.name}", partial(_data, state, member)))
    steps.append(Step("manifests", partial(_manifests, installation, environment, image)))
    steps.append(Step(f"hub and etcd on {state.hub}", partial(_hub, state)))
    for member in environment.members:
        steps.append(Step(f"agent on {member.name}", partial(_agent, state, member)))
    steps.append(Step("pods are ready", partial(_await_agents, state, environment)))
    steps.append(Step("topology", partial(_topology, ground, installation)))
    return steps


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
    import shutil

    for name in ("ca", "etcd-ca", "credentials", "hub", "clusters"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name in ("kubeconfig", "profile.json", "kind.json"):
        (directory / name).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- before the steps


def _only(found: list[Topology], file: str) -> Topology:
    if len(found) != 1:
        raise KindError(f"{file}: expected one document of kind Topology, found {len(found)}")
    return found[0]


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


def _refuse_foreign(environment: Environment, there: set[str]) -> None:
    foreign = sorted(there & {member.name for member in environment.members})
    if foreign:
        raise KindError(
            f"kind has clusters already that were not made here: {', '.join(foreign)}. They are left alone: "
            f"delete them with 'kind delete clusters {' '.join(foreign)}', or call those of the topology differently"
        )


def _fitting(environment: Environment) -> Environment:
    available = _available_memory() - _SPARE
    smaller = fitted(environment, available)
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


# --------------------------------------------------------------------------------------------------------- the steps


def _image(wishes: Wishes, found: list[str]) -> str:
    found[:] = [images.given(wishes.image) if wishes.image else images.build()]
    return found[0]


def _cluster(ground: Ground, member: Member, wishes: Wishes) -> str:
    state = ground.state
    cluster = state.cluster(member.name)
    there = member.name in clusters.existing()
    if there and cluster.whole:
        woken = clusters.wake(member.name)
        if woken:
            deployment.await_api(state, member.name)
        return f"is there; {woken} nodes started again" if woken else "is there"
    if there and not cluster.begun:
        _refuse_foreign(ground.environment, {member.name})
    if there:  # an earlier attempt was ended in the middle
        clusters.delete(member.name, state.kubeconfig)
    hub_port = state.hub_port if member.name == state.hub else None
    cluster.begun, cluster.whole, cluster.images = True, False, {}
    state.save()
    try:
        clusters.create(member, hub_port, wishes.node_image, state.kubeconfig)
    except KindError:  # kind has taken away what it began
        cluster.begun = False
        state.save()
        raise
    cluster.whole = True
    state.save()
    return f"{1 + member.workers} nodes"


def _load(state: State, member: Member, image: list[str], wishes: Wishes) -> str:
    cluster = state.cluster(member.name)
    wanted = [*image, *(_of_steps(wishes) if member.pods else ())]
    here = images.identities(wanted)
    lacking = [name for name, identity in here.items() if cluster.images.get(name) != identity]
    if lacking:
        images.load(lacking, member.name, member.nodes)
        cluster.images.update((name, here[name]) for name in lacking)
        state.save()
    pulled = [name for name in wanted if name not in here]
    words = [f"loaded {', '.join(lacking)}"] if lacking else []
    words += [f"not on this machine, nodes pull it: {', '.join(pulled)}"] if pulled else []
    return "; ".join(words) or "are there"


def _of_steps(wishes: Wishes) -> list[str]:
    """The images of steps that the user named, and those of the examples where these are run."""
    if wishes.topology:
        return list(wishes.load)
    files = sorted(EXAMPLES.glob("*/steps.yaml"))
    named = [image for file in files for image in images.named_in(file.read_text(), str(file))]
    return list(dict.fromkeys([*wishes.load, *named]))


def _data(state: State, member: Member) -> str:
    return f"{datasets.put(member, Path(state.data_root)) / 1e6:.1f} MB"


def _manifests(installation: Installation, environment: Environment, image: list[str]) -> str:
    try:
        installation.hub(HubPlace(image=image[0]))
        for member in environment.members:
            installation.agent(agent_place(environment, member, image[0]))
    except ManifestError as error:
        raise KindError(str(error)) from error
    return f"in {installation.directory}"


def _hub(state: State) -> str:
    deployment.apply(state, state.hub, state.directory / "hub")
    deployment.await_ready(state, state.hub, deployment.HUB)
    return "ready"


def _agent(state: State, member: Member) -> str:
    deployment.apply(state, member.name, state.directory / "clusters" / member.name)
    return "applied"


def _await_agents(state: State, environment: Environment) -> str:
    for member in environment.members:
        deployment.await_ready(state, member.name, deployment.AGENT)
    network.renew(state)
    return ""


def _topology(ground: Ground, installation: Installation) -> str:
    """Apply it, and wait until the hub itself sees all clusters and nodes ready."""
    state = ground.state
    hub = f"{LOOPBACK}:{state.hub_port}"
    Profile(hub, installation.user_credentials, data_root=Path(state.data_root)).write(state.directory)
    apply_topology(state.directory, ground.text, state.file)
    await_members(state.directory, {member.name: set(member.nodes) for member in ground.environment.members})
    return "all clusters are ready"
