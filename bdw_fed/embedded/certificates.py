"""Certificates of a federation on this machine: its own authority, and one of its own for etcd.

etcd lets in whoever its authority has certified, so it gets an authority that certifies nobody but etcd and the hub:
an agent's certificate opens no way around the hub.

The hub has the authority: agents and node daemons that run for long have their certificates renewed by it. etcd's and
the user's are made anew by the next `up`.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

from bdw_fed.embedded.layout import Layout, Process
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority

AUTHORITY = "ca"  # below the state directory
USER = "local"
USER_CREDENTIALS = "user-local"
ETCD_CLIENT = "etcd-client"
_RENEW_BEFORE = datetime.timedelta(days=30)
_DAYS = 90


def issue_all(layout: Layout) -> None:
    """See that every process and the user have a certificate that is good for a month at least."""
    state = Path(layout.state)
    authority = authority_in(state / AUTHORITY)
    etcd_authority = authority_in(state / "etcd-ca")
    folder = state / "credentials"
    folder.mkdir(mode=0o700, exist_ok=True)
    for process in layout.processes:
        see_to(etcd_authority if process.role == "etcd" else authority, _identity(process), Path(process.credentials))
    see_to(etcd_authority, Identity(Role.HUB, "hub"), folder / ETCD_CLIENT)
    see_to(authority, Identity(Role.USER, USER), folder / USER_CREDENTIALS)


def authority_in(directory: Path) -> Authority:
    """The authority in `directory`, made there if there is none."""
    try:
        return Authority.open(directory)
    except FileNotFoundError:
        return Authority.create(directory)


def _identity(process: Process) -> Identity:
    if process.role == "node":
        return Identity(Role.NODE, f"{process.cluster}/{process.node}")
    if process.role == "agent":
        return Identity(Role.AGENT, process.cluster)
    if process.role == "relay":
        return Identity(Role.RELAY, process.relay)
    return Identity(Role.HUB if process.role == "hub" else Role.ETCD, process.name)


def see_to(authority: Authority, identity: Identity, directory: Path) -> None:
    """See that `directory` has a certificate for `identity` that is good for a month at least."""
    if not _is_good(directory):
        authority.issue(identity, directory, days=_DAYS)


def _is_good(directory: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(Credentials.load(directory).certificate.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > _RENEW_BEFORE
