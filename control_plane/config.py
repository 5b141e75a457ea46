"""What a hub is told: where things are, who it is, for how long what counts; and with whose authority it may sign."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from control_plane.membership.joining import Issuing
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority, authority_hash
from wire.identity.kept import Kept

if TYPE_CHECKING:
    from control_plane.access.tokens import Issuer


@dataclass(frozen=True)
class HubConfig:
    """Where the hub keeps its blobs, where etcd is, who it is, where it serves (port 0: a free one).

    With the directory of the federation's authority it makes its own certificate, renews those of its agents and nodes
    and, at `listen_join`, lets clusters join.
    """

    state: Path
    etcd: list[str]
    etcd_credentials: Credentials
    credentials: Credentials
    listen: str
    etcd_name: str = ""  # in etcd's certificate, where it is not the endpoint's host
    name: str = "hub"
    advertise: str = ""  # where other hubs reach it, if not where it listens
    blobs: Path | None = None  # a directory that all hubs share; None: `blobs` in `state`
    lease: float = 6.0  # seconds after which the other hubs take a silent one for dead
    heartbeat: float = 2.0  # seconds between the agents' heartbeats
    keep_ended: float = 7 * 86400.0  # seconds after which an ended run is deleted
    hold: float = 10.0  # seconds that clusters hold slots for a run that is not committed
    admins: tuple[str, ...] = ()  # certificates' names that are admins whatever is granted: the first one
    audit: Path | None = None  # the audit log; None: audit.jsonl in `state`
    listen_users: str = ""  # where users with tokens are served, whose connections show no certificate
    issuer: Issuer | None = None  # of the tokens
    settle: bool = False  # etcd is the embedded one, whose acknowledgements come early
    authority: Path | None = None
    kept: tuple[Kept, ...] = ()  # certificates besides its own that it sees to: of the embedded etcd, for one
    listen_join: str = ""  # empty: nobody can join
    advertise_join: str = ""  # where clusters find that, if it differs; ":PORT": at the hub's own host
    certificate_life: float = 90 * 86400.0  # seconds within which a certificate is renewed
    certificate_grace: float = 7 * 86400.0  # that it is valid for beyond, for who is cut off
    hub_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))  # of this process

    def issuing(self) -> Issuing | None:
        """How certificates are made, where it has the authority. ValueError if that is another one than its own."""
        if self.authority is None:
            return None
        authority = Authority.open(self.authority)
        if authority.hash != authority_hash(self.credentials.ca.read_bytes()):
            raise ValueError(f"{self.authority}: this is not the authority of the certificate that the hub was given")
        port = self.listen_join.rpartition(":")[2]
        return Issuing(
            authority,
            life=self.certificate_life,
            grace=self.certificate_grace,
            join_address=self.advertise_join or (f":{port}" if port else ""),
        )

    def own(self, issuing: Issuing | None) -> list[Kept]:
        """The hub's own certificate, where it has the authority: it needs nobody to renew it."""
        if issuing is None:
            return []
        directory = self.state / "credentials"
        return [
            Kept(issuing.authority, Identity(Role.HUB, "hub"), directory, issuing.life, issuing.grace, loopback=False)
        ]
