"""Kind's clusters: which there are, making and deleting them."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import yaml

from bdw_fed.kind.environment import Member, kind_config
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import run

_KUBECONFIG = threading.Lock()
_LABEL = "io.x-k8s.kind.cluster"


def existing() -> set[str]:
    """The names of all kind clusters on this machine, whoever made them."""
    return set(run("kind", "get", "clusters", "--quiet").split())


def create(member: Member, hub_port: int | None, image: str, kubeconfig: Path) -> None:
    """Make it, so far that its API answers; that its nodes are ready is awaited with the pods. KindError.

    `image` empty: kind's own.
    """
    words = ["kind", "create", "cluster", "--name", member.name, "--config", "-", "--quiet"]
    words += ["--image", image] if image else []
    with tempfile.TemporaryDirectory() as own:  # kind refuses a kubeconfig to which another of it is writing
        given = yaml.safe_dump(kind_config(member, hub_port)).encode()
        run(*words, "--kubeconfig", str(Path(own) / "kubeconfig"), given=given)
    with _KUBECONFIG:
        run("kind", "export", "kubeconfig", "--name", member.name, "--kubeconfig", str(kubeconfig), "--quiet")


def delete(name: str) -> None:
    """Delete it; nothing if it is not there. What our kubeconfig says of it stays, for the next of that name."""
    with tempfile.TemporaryDirectory() as none:  # kind refuses a kubeconfig to which another of it is writing
        run("kind", "delete", "cluster", "--name", name, "--kubeconfig", str(Path(none) / "kubeconfig"), "--quiet")


def wake(name: str) -> int:
    """Start the nodes of a cluster that are stopped or paused; returns how many there were."""
    woken = 0
    for status, verb in (("exited", "start"), ("paused", "unpause")):
        filters = ("--filter", f"label={_LABEL}={name}", "--filter", f"status={status}")
        found = run("docker", "ps", "--all", *filters, "--format", "{{.Names}}").split()
        if found:
            run("docker", verb, *found)
        woken += len(found)
    return woken


def nodes(name: str) -> dict[str, str]:
    """The containers of a cluster, running or not, with their addresses in the network that all clusters share."""
    found = run("docker", "ps", "--all", "--filter", f"label={_LABEL}={name}", "--format", "{{.Names}}").split()
    if not found:
        return {}
    form = "{{.Name}} {{with index .NetworkSettings.Networks " + f'"{network()}"' + "}}{{.IPAddress}}{{end}}"
    lines = run("docker", "inspect", "--format", form, *sorted(found)).splitlines()
    return {name.lstrip("/"): address for name, _, address in (line.strip().partition(" ") for line in lines)}


def addresses(name: str) -> dict[str, str]:
    """The same, all of which must have an address. KindError says which has none."""
    found = nodes(name)
    if not found:
        raise KindError(f"cluster {name} has no nodes any more; run 'bdw-fed kind up' again")
    missing = [node for node, address in found.items() if not address]
    if missing:
        raise KindError(f"{', '.join(missing)}: has no address; start it: docker start {' '.join(missing)}")
    return found


def network() -> str:
    """Docker's network in which kind puts all nodes."""
    return os.environ.get("KIND_EXPERIMENTAL_DOCKER_NETWORK", "kind")
