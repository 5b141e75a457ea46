"""Who somebody is: a role and a name, written into the certificate as a URI.

The name in a server's certificate is derived from its identity, so a client that expects a certain agent can't be
answered by another member of the federation, although all certificates come from the same authority.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

SCHEME = "bdw-fed"
_DOMAIN = "bdw-fed.internal"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?(/[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?)?")


class Role(StrEnum):
    """What a member of the federation is. What a user may do is said by roles of their own, see access.proto."""

    HUB = "hub"
    AGENT = "agent"
    NODE = "node"
    USER = "user"
    ETCD = "etcd"
    RELAY = "relay"


@dataclass(frozen=True)
class Identity:
    """A role and a name; a node's name is CLUSTER/NODE, an agent's its cluster."""

    role: Role
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} can't be the name of a {self.role}: expected a-z, 0-9, '-' and '.'")

    @property
    def uri(self) -> str:
        """The form that stands in the certificate, for example bdw-fed://agent/edge1."""
        return f"{SCHEME}://{self.role}/{self.name}"

    @property
    def cluster(self) -> str:
        """The cluster that an agent or a node belongs to."""
        return self.name.partition("/")[0]

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """The identity behind a URI; ValueError if it is none of ours."""
        parts = urlsplit(uri)
        if parts.scheme != SCHEME:
            raise ValueError(f"{uri!r} is not an identity of this federation")
        return cls(Role(parts.netloc), parts.path.lstrip("/"))

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


def server_name(identity: Identity) -> str:
    """The host name that this identity's server certificate carries and its clients expect.

    >>> server_name(Identity(Role.NODE, "edge1/n1"))
    'n1.edge1.node.bdw-fed.internal'
    """
    if identity.role is Role.HUB:
        return f"hub.{_DOMAIN}"  # any hub serves any client: they share one name
    labels = ".".join(reversed(identity.name.split("/")))
    return f"{labels}.{identity.role}.{_DOMAIN}"


def member_named(name: str) -> Identity | None:
    """The agent or node whose certificate carries this host name; None if it is nobody's of these.

    >>> member_named("n1.edge1.node.bdw-fed.internal")
    Identity(role=<Role.NODE: 'node'>, name='edge1/n1')
    """
    labels, _, role = name.removesuffix(f".{_DOMAIN}").rpartition(".")
    node, _, cluster = labels.rpartition(".")
    try:
        if role == Role.AGENT:
            return Identity(Role.AGENT, labels)
        return Identity(Role.NODE, f"{cluster}/{node}") if role == Role.NODE and node else None
    except ValueError:
        return None
