"""`agent`: a cluster's agent as a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import RefusedError, UsageError
from bdw_fed.cli.quantities import bytes_from
from bdw_fed.cli.verbs.agent_join import CREDENTIALS
from bdw_fed.cli.verbs.server import Directory, ListenHealth, LogLevel

if TYPE_CHECKING:
    from wire.identity import Credentials, Identity

OwnCredentials = Annotated[
    Path | None,
    Option(
        ("--credentials",),
        "Directory with cert.pem, key.pem and ca.pem, where they are renewed. Default: DIR/credentials.",
        "DIR",
    ),
]

EXAMPLES = """\
  bdw-fed agent --cluster edge1 --hub hub.example.org:7443 --directory /var/lib/bdw-fed/agent \\
      --data-root /srv/data      after 'agent join'
  bdw-fed agent --cluster edge1 --hub hub.example.org:7443 --directory /var/lib/bdw-fed/agent \\
      --data-root /srv/data --credentials /etc/bdw-fed/agent
"""


def command(
    cluster: Annotated[str, Option(("--cluster",), "Name of the cluster in the topology.", "NAME")],
    hub: Annotated[list[str], Option(("--hub",), "Address of a hub, HOST:PORT. Repeatable.", "ADDRESS")],
    directory: Directory,
    data_root: Annotated[Path, Option(("--data-root",), "What datasets' paths are relative to.", "DIR")],
    credentials: OwnCredentials = None,
    join: Annotated[
        str, Option(("--join",), "Where the hub lets clusters join, for who has no credentials yet.", "ADDRESS")
    ] = "",
    token_file: Annotated[Path | None, Option(("--token-file",), "With --join: a file with the token.", "FILE")] = None,
    ca_hash: Annotated[str, Option(("--ca-hash",), "With --join: hash of the federation's authority.", "HASH")] = "",
    listen_nodes: Annotated[str, Option(("--listen-nodes",), "Where node daemons attach.", "ADDRESS")] = "0.0.0.0:7444",
    listen_peers: Annotated[str, Option(("--listen-peers",), "Where other clusters dial.", "ADDRESS")] = "0.0.0.0:7445",
    advertise_peers: Annotated[
        str, Option(("--advertise-peers",), "Where other clusters dial, if that differs.", "ADDRESS")
    ] = "",
    listen_join: Annotated[
        str, Option(("--listen-join",), "Where nodes without credentials get some, for the node token.", "ADDRESS")
    ] = "",
    node_token_file: Annotated[
        Path | None,
        Option(("--node-token-file",), "With --listen-join: the node token. Default: DIR/node-token, made.", "FILE"),
    ] = None,
    durability: Annotated[
        str, Option(("--durability",), "What the log survives: power (fsync) or process.", "power|process")
    ] = "power",
    cache: Annotated[
        str, Option(("--cache",), "How much of tasks' results is kept for other runs; 0: nothing.", "SIZE")
    ] = "10Gi",
    listen_health: ListenHealth = "",
    log_level: LogLevel = "warning",
) -> None:
    """Run the agent of one cluster, in the foreground, until SIGTERM."""
    from bdw_fed.cli.service import say_ready
    from cluster_agent.agent import AgentConfig, serve
    from wire.identity import Identity, Role
    from wire.logging import configure
    from wire.service import run_service

    configure("agent", cluster, level=log_level)
    place = credentials or directory / CREDENTIALS
    token = text_in(token_file) if token_file else ""
    if join and not (token and ca_hash):
        raise UsageError("--join: it takes --token-file and --ca-hash, as 'bdw-fed token create' prints them")
    found = found_or_joined(join, Identity(Role.HUB, "hub"), token, ca_hash, place, cluster=cluster)
    config = AgentConfig(
        cluster=cluster,
        state=directory.absolute(),
        hub=hub,
        credentials=found,
        listen_nodes=listen_nodes,
        listen_peers=listen_peers,
        data_root=data_root.absolute(),
        durability=durability,
        advertise_peers=advertise_peers,
        listen_join=listen_join,
        node_token=node_token_file,
        cache=bytes_from("--cache", cache),
    )
    run_service(serve, config, say_ready, listen_health)


def text_in(file: Path) -> str:
    """What stands in a file with one word."""
    return file.read_text().strip()


def found_or_joined(
    join: str, server: Identity, token: str, ca_hash: str, place: Path, *, cluster: str, node: str = ""
) -> Credentials:
    """The credentials in `place`; with `join`, an address, they are got there if need be. RefusedError."""
    import asyncio

    from cluster_agent.membership import errors
    from cluster_agent.membership.first import member
    from cluster_agent.membership.join import join as joined
    from wire.identity import Credentials

    if not join:
        try:
            return Credentials.load(place)
        except FileNotFoundError as error:
            raise RefusedError(f"{error}; a member gets them by joining: bdw-fed agent join --help") from error

    async def first() -> Credentials:
        return await joined(join, server, token, ca_hash, place, cluster=cluster, node=node)

    try:
        return asyncio.run(member(place, token, first))
    except errors.JoinError as error:
        raise RefusedError(str(error)) from error
