"""Certificates of a federation on this machine: its own authority, and one of its own for etcd.

etcd lets in whoever its authority has certified, so it gets an authority that certifies nobody but etcd and the hub:
an agent's certificate opens no way around the hub.

All are made here, before anybody starts. The hub has both authorities and renews them while it runs, however long that
is: agents, node daemons and relays ask it, and it sees to its own, etcd's and the user's (`kept_by_hub`).
"""

from __future__ import annotations

from pathlib import Path

from bdw_fed.embedded.layout import Layout, Process
from wire.identity import Identity, Role
from wire.identity.authority import Authority
from wire.identity.kept import Kept

AUTHORITY = "ca"  # below the state directory
ETCD_AUTHORITY = "etcd-ca"
USER = "local"
USER_CREDENTIALS = "user-local"
ETCD_CLIENT = "etcd-client"


def issue_all(layout: Layout) -> None:
    """See that every process and the user have a certificate that is good for a month at least."""
    state = Path(layout.state)
    authority = authority_in(state / AUTHORITY)
    (state / "credentials").mkdir(mode=0o700, exist_ok=True)
    for process in layout.processes:
        if process.role != "etcd":
            see_to(authority, _identity(process), Path(process.credentials))
    authority_in(state / ETCD_AUTHORITY)
    for kept in kept_by_hub(layout):
        kept.see_to()


def kept_by_hub(layout: Layout) -> tuple[Kept, ...]:
    """The certificates whose holders can't ask for the next one: etcd's, the hub's for etcd, and the user's."""
    state = Path(layout.state)
    authority, etcd_authority = Authority.open(state / AUTHORITY), Authority.open(state / ETCD_AUTHORITY)
    etcd = layout.one("etcd")
    return (
        Kept(etcd_authority, Identity(Role.ETCD, etcd.name), Path(etcd.credentials)),
        Kept(etcd_authority, Identity(Role.HUB, "hub"), state / "credentials" / ETCD_CLIENT),
        Kept(authority, Identity(Role.USER, USER), state / "credentials" / USER_CREDENTIALS),
    )


def authority_in(directory: Path) -> Authority:
    """The authority in `directory`, made there if there is none."""
    try:
        return Authority.open(directory)
    except FileNotFoundError:
        return Authority.create(directory)


def see_to(authority: Authority, identity: Identity, directory: Path) -> None:
    """See that `directory` has a certificate for `identity` that is good for a month at least."""
    Kept(authority, identity, directory).see_to()


def _identity(process: Process) -> Identity:
    if process.role == "node":
        return Identity(Role.NODE, f"{process.cluster}/{process.node}")
    if process.role == "agent":
        return Identity(Role.AGENT, process.cluster)
    if process.role == "relay":
        return Identity(Role.RELAY, process.relay)
    return Identity(Role.HUB, process.name)
