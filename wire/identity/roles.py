"""Who somebody is: a role and a name, written into the certificate as a URI.

The name in a server's certificate is derived from its identity, so a client that expects a certain agent can't be
answered by another member of the federation, although all certificates come from the same authority.

A cluster's certificates have a generation. Revoking them makes the next one: certificates of a lower generation are
refused from then on, by whoever has heard of it (see `revocations`), without a clock being asked. Revoking one node
makes the next one for that node alone, so its generation may be higher than its cluster's; what it may expect of its
agent then stands beside it in the certificate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

SCHEME = "bdw-fed"
_DOMAIN = "bdw-fed.internal"
_HOST = re.compile(rf"(?P<labels>.+)\.(?P<role>agent|node)(\.g(?P<generation>[1-9][0-9]*))?\.{re.escape(_DOMAIN)}")
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
    """A role and a name; a node's name is CLUSTER/NODE, an agent's its cluster. `generation`: of its certificate.

    `cluster_generation` of a node: what its cluster had when the certificate was made; None: the same.
    """

    role: Role
    name: str
    generation: int = 0
    cluster_generation: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} can't be the name of a {self.role}: expected a-z, 0-9, '-' and '.'")

    @property
    def uri(self) -> str:
        """The form that stands in the certificate, for example bdw-fed://agent/edge1?generation=2."""
        generation = f"?generation={self.generation}" if self.generation else ""
        if self.cluster_generation not in (None, self.generation):
            generation += f"&cluster={self.cluster_generation}"
        return f"{SCHEME}://{self.role}/{self.name}{generation}"

    @property
    def cluster(self) -> str:
        """The cluster that an agent or a node belongs to."""
        return self.name.partition("/")[0]

    @property
    def agent(self) -> Identity:
        """The agent that a node answers to: of this generation at least."""
        known = self.cluster_generation
        return Identity(Role.AGENT, self.cluster, self.generation if known is None else known)

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """The identity behind a URI; ValueError if it is none of ours."""
        parts = urlsplit(uri)
        if parts.scheme != SCHEME:
            raise ValueError(f"{uri!r} is not an identity of this federation")
        told = parse_qs(parts.query)
        generation = told.get("generation", ["0"])[0]
        of_cluster = told.get("cluster", [generation])[0]
        if not (generation.isdecimal() and of_cluster.isdecimal()):
            raise ValueError(f"{uri!r} has no number as its generation")
        return cls(Role(parts.netloc), parts.path.removeprefix("/"), int(generation), int(of_cluster))

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


def server_name(identity: Identity) -> str:
    """The host name that this identity's server certificate carries and its clients expect.

    A certificate carries those of all lower generations too. So who expects a generation is answered by that one or
    a later one, and never by a revoked one.

    >>> server_name(Identity(Role.NODE, "edge1/n1")), server_name(Identity(Role.AGENT, "edge1", 2))
    ('n1.edge1.node.bdw-fed.internal', 'edge1.agent.g2.bdw-fed.internal')
    """
    if identity.role is Role.HUB:
        return f"hub.{_DOMAIN}"  # any hub serves any client: they share one name
    labels = ".".join(reversed(identity.name.split("/")))
    generation = f"g{identity.generation}." if identity.generation else ""
    return f"{labels}.{identity.role}.{generation}{_DOMAIN}"


def server_names(identity: Identity) -> list[str]:
    """All host names that this identity's certificate carries."""
    return [server_name(replace(identity, generation=number)) for number in range(identity.generation + 1)]


def member_named(name: str) -> Identity | None:
    """The agent or node whose certificate carries this host name; None if it is nobody's of these.

    >>> [member_named(f"{name}.bdw-fed.internal").uri for name in ("n1.edge1.node", "edge1.agent.g2")]
    ['bdw-fed://node/edge1/n1', 'bdw-fed://agent/edge1?generation=2']
    """
    found = _HOST.fullmatch(name)
    if found is None:
        return None
    labels, generation = found["labels"], int(found["generation"] or 0)
    node, _, cluster = labels.rpartition(".")
    try:
        if found["role"] == Role.AGENT:
            return Identity(Role.AGENT, labels, generation)
        return Identity(Role.NODE, f"{cluster}/{node}", generation) if node else None
    except ValueError:
        return None
