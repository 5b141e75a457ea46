"""`server`: the hub as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option

EXAMPLES = """\
  bdw-fed server --directory /var/lib/bdw-fed/hub --credentials /etc/bdw-fed/hub \\
      --etcd etcd1:2379 --etcd-credentials /etc/bdw-fed/etcd --listen 0.0.0.0:7443 \\
      --authority /etc/bdw-fed/authority
"""

Credentials = Annotated[Path, Option(("--credentials",), "Directory with cert.pem, key.pem and ca.pem.", "DIR")]
Directory = Annotated[Path, Option(("--directory",), "Where this service keeps its state.", "DIR")]
ListenHealth = Annotated[
    str, Option(("--listen-health",), "Where to tell, over plain HTTP, whether it lives and serves.", "ADDRESS")
]
LogLevel = Annotated[str, Option(("--log-level",), "debug, info, warning or error.", "LEVEL")]


def command(
    directory: Directory,
    credentials: Credentials,
    etcd: Annotated[list[str], Option(("--etcd",), "Endpoint of etcd, HOST:PORT. Repeatable.", "ADDRESS")],
    etcd_credentials: Annotated[Path, Option(("--etcd-credentials",), "Its credentials, as above.", "DIR")],
    listen: Annotated[str, Option(("--listen",), "Where to serve.", "ADDRESS")] = "0.0.0.0:7443",
    etcd_name: Annotated[
        str, Option(("--etcd-name",), "What etcd's certificate says, if not the endpoint's host.", "HOST")
    ] = "",
    name: Annotated[str, Option(("--name",), "Of this hub, among those that share an etcd.", "NAME")] = "hub",
    advertise: Annotated[
        str, Option(("--advertise",), "Where other hubs on this etcd reach it, if that differs.", "ADDRESS")
    ] = "",
    blobs: Annotated[
        Path | None,
        Option(("--blobs",), "Where bundles are kept. All hubs on an etcd share it. Default: in the directory.", "DIR"),
    ] = None,
    admin: Annotated[
        list[str] | None,
        Option(
            ("--admin",),
            "User whose certificate makes an admin, whatever roles are granted: the first one. Repeatable.",
            "NAME",
        ),
    ] = None,
    audit: Annotated[
        Path | None, Option(("--audit",), "The audit log. Default: audit.jsonl in the directory.", "FILE")
    ] = None,
    listen_users: Annotated[
        str,
        Option(
            ("--listen-users",),
            "Where to serve users who come with a token of the issuer, and no certificate.",
            "ADDRESS",
        ),
    ] = "",
    oidc_issuer: Annotated[
        str, Option(("--oidc-issuer",), "OpenID Connect issuer whose tokens say who users are; https.", "URL")
    ] = "",
    oidc_client_id: Annotated[str, Option(("--oidc-client-id",), "For whom its tokens are made.", "ID")] = "",
    oidc_user_claim: Annotated[str, Option(("--oidc-user-claim",), "Claim with the user's name.", "CLAIM")] = "sub",
    oidc_groups_claim: Annotated[
        str, Option(("--oidc-groups-claim",), "Claim with the user's groups.", "CLAIM")
    ] = "groups",
    oidc_ca: Annotated[
        Path | None, Option(("--oidc-ca",), "Authority of the issuer's certificate, if not a public one.", "FILE")
    ] = None,
    heartbeat: Annotated[float, Option(("--heartbeat",), "Seconds between the agents' heartbeats.")] = 2.0,
    authority: Annotated[
        Path | None,
        Option(("--authority",), "Directory with the federation's ca.pem and ca-key.pem: lets clusters join.", "DIR"),
    ] = None,
    listen_join: Annotated[
        str, Option(("--listen-join",), "Where clusters join, with --authority. Empty: nowhere.", "ADDRESS")
    ] = "0.0.0.0:7442",
    advertise_join: Annotated[
        str, Option(("--advertise-join",), "Where they find that, if it differs; :PORT: at the hub's host.", "ADDRESS")
    ] = "",
    certificate_life: Annotated[
        str, Option(("--certificate-life",), "Members renew theirs after two thirds of it.", "DURATION")
    ] = "90d",
    certificate_grace: Annotated[
        str, Option(("--certificate-grace",), "How much longer who is cut off may go on.", "DURATION")
    ] = "7d",
    listen_health: ListenHealth = "",
    log_level: LogLevel = "warning",
) -> None:
    """Run the hub, in the foreground, until SIGTERM."""
    from bdw_fed.cli.exits import UsageError
    from bdw_fed.cli.service import say_ready
    from bdw_fed.cli.verbs.token_create import seconds_from
    from control_plane.config import HubConfig
    from control_plane.server import serve
    from wire.identity import Credentials as Files
    from wire.logging import configure
    from wire.service import run_service

    if bool(oidc_issuer) != bool(listen_users):
        raise UsageError(
            "--oidc-issuer and --listen-users belong together: whose tokens count, and where they are shown"
        )
    issuer = None
    if oidc_issuer:
        from control_plane.access.tokens import Issuer

        try:
            issuer = Issuer(oidc_issuer, oidc_client_id, oidc_user_claim, oidc_groups_claim, oidc_ca)
        except ValueError as error:
            raise UsageError(str(error)) from error
    configure("hub", name, level=log_level)
    config = HubConfig(
        state=directory.absolute(),
        etcd=etcd,
        etcd_credentials=Files.load(etcd_credentials),
        etcd_name=etcd_name,
        credentials=Files.load(credentials),
        listen=listen,
        name=name,
        advertise=advertise,
        blobs=blobs,
        heartbeat=heartbeat,
        admins=tuple(admin or ()),
        audit=audit,
        listen_users=listen_users,
        issuer=issuer,
        authority=authority,
        listen_join=listen_join if authority else "",
        advertise_join=advertise_join,
        certificate_life=seconds_from("--certificate-life", certificate_life),
        certificate_grace=seconds_from("--certificate-grace", certificate_grace),
    )
    run_service(serve, config, say_ready, listen_health)
