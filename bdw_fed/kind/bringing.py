"""Bringing the environment up: its steps, what each needs, and doing what is missing.

    our image ─┬▶ manifests ────────────────────────┬▶ hub and etcd on A ┐
               └▶ images packed ─┬▶ images on A, B ─┤                    ├▶ pods are ready ─▶ topology
    cluster A, B ────────────────┴▶ data on A, B ───┴▶ agent on A, B ────┘

`plan` says which steps there are, from the topology and the state; each says in a few words what it did. One that fails
leaves the state as it is: the next `up` plans the same steps, and those that are done find that they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bdw_fed.client.connection import Profile
from bdw_fed.embedded.ports import LOOPBACK
from bdw_fed.kind import clusters, datasets, deployment, images, network
from bdw_fed.kind.environment import Environment, Member, agent_place
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.preparing import EXAMPLES, Ground, Wishes, refuse_foreign
from bdw_fed.kind.settling import apply_topology, await_members
from bdw_fed.kind.state import ARCHIVE, State
from bdw_fed.kind.steps import Step
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.installation import Installation
from bdw_fed.manifests.overlays import HubPlace, RelayPlace

_IMAGE = "our image"
_PACKED = "images packed"
_MANIFESTS = "manifests"
_READY = "pods are ready"


@dataclass
class _Cargo:
    """What is loaded onto nodes: images with their identities, and the archive with those that some node lacks."""

    archive: Path
    images: dict[str, str] = field(default_factory=dict)


def plan(ground: Ground, wishes: Wishes) -> list[Step]:
    """All steps from nothing to a federation that is ready; those that others need come first."""
    environment, state = ground.environment, ground.state
    installation = Installation(state.directory)
    image: list[str] = []  # filled by the first step
    cargo = _Cargo(state.directory / ARCHIVE)
    steps = [Step(_IMAGE, partial(_image, wishes, image))]
    members = sorted(environment.members, key=lambda member: member.name != state.hub)  # most has to be done there
    for member in members:
        steps.append(Step(f"cluster {member.name}", partial(_cluster, ground, member, wishes)))
    steps.append(Step(_PACKED, partial(_pack, state, environment, image, wishes, cargo), (_IMAGE,)))
    steps.append(Step(_MANIFESTS, partial(_manifests, installation, ground, image), (_IMAGE,)))
    for member in members:
        there = f"cluster {member.name}"
        steps.append(Step(f"images on {member.name}", partial(_load, state, member, cargo), (_PACKED, there)))
        if member.files:
            steps.append(Step(f"data on {member.name}", partial(_data, state, member), (there,)))
    hub = f"hub and etcd on {state.hub}"
    steps.append(Step(hub, partial(_hub, state), (_MANIFESTS, f"images on {state.hub}")))
    if environment.relay:
        steps.append(Step(f"relay on {state.hub}", partial(_relay, state, environment), (hub,)))
    agents = []
    for member in members:
        # On the hub's cluster after the hub: what both overlays have in common is made by one at a time.
        needs = (_MANIFESTS, f"images on {member.name}", *([hub] if member.name == state.hub else ()))
        needs += (f"data on {member.name}",) if member.files else ()
        agents.append(Step(f"agent on {member.name}", partial(_agent, state, member), needs))
    steps += agents
    steps.append(Step(_READY, partial(_await_agents, state, environment), tuple(step.name for step in agents)))
    relay = (f"relay on {state.hub}",) if environment.relay else ()
    steps.append(Step("topology", partial(_topology, ground, installation), (_READY, hub, *relay)))
    return steps


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
        refuse_foreign(ground.environment, {member.name})
    if there:  # an earlier attempt was ended in the middle
        clusters.delete(member.name)
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


def _pack(state: State, environment: Environment, image: list[str], wishes: Wishes, cargo: _Cargo) -> str:
    """All images that a node lacks, for all clusters at once; what this machine has not is pulled by the nodes."""
    pods = any(member.pods for member in environment.members)
    wanted = [*image, *(_of_steps(wishes) if pods else ())]
    cargo.images = images.identities(wanted)
    loaded = [state.cluster(member.name).images for member in environment.members]
    lacking = [name for name, identity in cargo.images.items() if any(each.get(name) != identity for each in loaded)]
    if lacking:
        images.pack(lacking, cargo.archive)
    pulled = [name for name in wanted if name not in cargo.images]
    words = [", ".join(lacking) if lacking else "are on the nodes"]
    words += [f"not on this machine, so nodes pull it: {', '.join(pulled)}"] if pulled else []
    return "; ".join(words)


def _load(state: State, member: Member, cargo: _Cargo) -> str:
    cluster = state.cluster(member.name)
    if all(cluster.images.get(name) == identity for name, identity in cargo.images.items()):
        return "are there"
    images.load(cargo.archive, member.name, member.nodes)
    cluster.images = {**cluster.images, **cargo.images}
    state.save()
    return ""


def _of_steps(wishes: Wishes) -> list[str]:
    """The images of steps that the user named, and those of the examples where these are run."""
    if wishes.topology:
        return list(wishes.load)
    files = sorted(EXAMPLES.glob("*/steps.yaml"))
    named = [image for file in files for image in images.named_in(file.read_text(), str(file))]
    return list(dict.fromkeys([*wishes.load, *named]))


def _data(state: State, member: Member) -> str:
    return f"{datasets.put(member, Path(state.data_root)) / 1e6:.1f} MB"


def _manifests(installation: Installation, ground: Ground, image: list[str]) -> str:
    environment = ground.environment
    try:
        installation.hub(HubPlace(image=image[0], join=True))
        if environment.relay:
            installation.relay(RelayPlace(environment.relay, image[0]))
        for member in environment.members:
            storage = ground.storage.get(member.name)
            installation.agent(agent_place(environment, member, image[0], storage))
    except ManifestError as error:
        raise KindError(str(error)) from error
    return f"in {installation.directory}"


def _hub(state: State) -> str:
    deployment.apply(state, state.hub, state.directory / "hub")
    deployment.await_ready(state, state.hub, deployment.HUB)
    return "ready"


def _relay(state: State, environment: Environment) -> str:
    deployment.apply(state, state.hub, state.directory / "relays" / environment.relay)
    deployment.await_ready(state, state.hub, deployment.RELAY)
    return "ready"


def _agent(state: State, member: Member) -> str:
    deployment.apply(state, member.name, state.directory / "clusters" / member.name)
    return "applied"


def _await_agents(state: State, environment: Environment) -> str:
    for member in environment.members:
        deployment.await_ready(state, member.name, deployment.AGENT)
    network.renew(state)
    (state.directory / ARCHIVE).unlink(missing_ok=True)
    return ""


def _topology(ground: Ground, installation: Installation) -> str:
    """Apply it, and wait until the hub itself sees all clusters and nodes ready."""
    state = ground.state
    hub = f"{LOOPBACK}:{state.hub_port}"
    Profile(hub, installation.user_credentials, data_root=Path(state.data_root)).write(state.directory)
    apply_topology(state.directory, ground.text, state.file)
    await_members(state.directory, {member.name: set(member.nodes) for member in ground.environment.members})
    return "all clusters are ready"
