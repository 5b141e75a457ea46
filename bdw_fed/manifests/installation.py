"""An installation directory: its authorities, its overlays with their credentials, and what kubectl makes of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from bdw_fed.embedded.certificates import ETCD_CLIENT, USER_CREDENTIALS, authority_in, see_to
from bdw_fed.manifests.errors import ManifestError
from bdw_fed.manifests.overlays import (
    AUTHORITY_FILES,
    JOIN,
    NODE_TOKEN,
    STORAGE,
    TOKEN,
    AgentPlace,
    HubPlace,
    Joining,
    Kustomization,
    RelayPlace,
    agent_overlay,
    hub_overlay,
    relay_overlay,
)
from wire.identity import Identity, Role
from wire.identity.authority import Authority
from wire.identity.files import replace_whole

USER = "local"
_PACKAGED = Path(__file__).parent / "kubernetes"
_IN_REPOSITORY = Path(__file__).parents[2] / "deploy" / "kubernetes"


def default_image() -> str:
    """The image of this version, as `make image` names it."""
    return f"bdw-fed:{version('bdw-fed')}"


def bases() -> Path:
    """Where the bases are: in the package, or beside it in the repository."""
    for place in (_PACKAGED, _IN_REPOSITORY):
        if (place / "agent" / "kustomization.yaml").is_file():
            return place
    raise ManifestError(
        "the bases in deploy/kubernetes are not there: install the package from a wheel, or the repository"
    )


class Installation:
    """A directory that only its owner can read. What `hub`, `agent` and `relay` return is the overlay's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)

    @property
    def user_credentials(self) -> Path:
        """Of the person who installs; made with the hub's overlay."""
        return self.directory / "credentials" / USER_CREDENTIALS

    def hub(self, place: HubPlace) -> Path:
        """Make the overlay of hub and etcd, and the authorities at the first time."""
        authority, etcd_authority = authority_in(self.directory / "ca"), authority_in(self.directory / "etcd-ca")
        overlay = self.directory / "hub"
        see_to(etcd_authority, Identity(Role.ETCD, "etcd"), overlay / "etcd")
        see_to(etcd_authority, Identity(Role.HUB, "hub"), overlay / ETCD_CLIENT)
        see_to(authority, Identity(Role.HUB, "hub"), overlay / "hub")
        see_to(authority, Identity(Role.USER, USER), self.user_credentials)
        if place.join:  # kubectl reads no file outside of the overlay
            (overlay / "authority").mkdir(mode=0o700, exist_ok=True)
            for file in AUTHORITY_FILES:
                replace_whole(overlay / "authority" / file, (self.directory / "ca" / file).read_bytes())
        return _write(overlay, hub_overlay(place, _relative(overlay)), place.namespace)

    def agent(self, place: AgentPlace) -> Path:
        """Make the overlay of a cluster. ManifestError where the hub's has not been made, unless the cluster joins."""
        identity = _identity(Role.AGENT, place.cluster, "cluster")  # first of all, since it becomes a path
        overlay = self.directory / "clusters" / place.cluster
        if place.joining is not None:
            _tokens(overlay / JOIN, place.joining)
        else:
            authority = self._authority()
            see_to(authority, identity, overlay / "agent")
            for node in place.nodes:
                see_to(authority, _identity(Role.NODE, f"{place.cluster}/{node}", "node"), overlay / "nodes" / node)
        if place.storage is not None:
            told = {"topology.yaml": place.storage.topology.encode(), **place.storage.credentials}
            for name, content in told.items():
                file = overlay / STORAGE / name
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_whole(file, content)
        return _write(overlay, agent_overlay(place, _relative(overlay)), place.namespace)

    def relay(self, place: RelayPlace) -> Path:
        """Make the overlay of a relay. ManifestError where the hub's has not been made."""
        authority = self._authority()
        identity = _identity(Role.RELAY, place.name, "relay")
        overlay = self.directory / "relays" / place.name
        see_to(authority, identity, overlay / "relay")
        return _write(overlay, relay_overlay(place, _relative(overlay)), place.namespace)

    def _authority(self) -> Authority:
        if not (self.directory / "ca" / "ca-key.pem").is_file():
            raise ManifestError(
                f"{self.directory}: there is no authority of a federation; make the hub's manifest first: "
                f"bdw-fed server manifest --directory {self.directory}"
            )
        return authority_in(self.directory / "ca")


def _identity(role: Role, name: str, kind: str) -> Identity:
    try:
        return Identity(role, name)
    except ValueError as error:
        raise ManifestError(f"{kind} {name}: {error}") from error


def _tokens(directory: Path, joining: Joining) -> None:
    """The token of the agent, and the one of its nodes: a new one for each of the agent's, since the nodes of a new
    member have to be let in anew."""
    from cluster_agent.membership.node_token import new_node_token

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token, nodes = directory / TOKEN, directory / NODE_TOKEN
    told = f"{joining.token}\n".encode()
    if nodes.exists() and token.exists() and token.read_bytes() == told:
        return
    replace_whole(nodes, f"{new_node_token(joining.ca_hash)}\n".encode())
    replace_whole(token, told)


def render(overlay: Path) -> str:
    """All objects of an overlay as YAML. ManifestError."""
    try:
        done = subprocess.run(
            ["kubectl", "kustomize", str(overlay)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise ManifestError("kubectl is not installed, or not on PATH; it renders the manifests") from error
    if done.returncode != 0:
        raise ManifestError(f"kubectl kustomize {overlay} failed: {done.stderr.strip()}")
    return done.stdout


def _relative(overlay: Path) -> str:
    return os.path.relpath(bases().resolve(), overlay.resolve())


def _write(overlay: Path, content: Kustomization, namespace: str) -> Path:
    # Node daemons mount directories of their nodes, which the other levels do not allow.
    labels = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    for name, values in (("kustomization.yaml", content), ("namespace.yaml", space)):
        _replace(overlay / name, values)
    return overlay


def _replace(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False))
