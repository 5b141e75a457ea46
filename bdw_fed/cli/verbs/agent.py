"""`agent`: a cluster's agent as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.verbs.server import Credentials, Directory, ListenHealth, LogLevel

EXAMPLES = """\
  bdw-fed agent --cluster edge1 --hub hub.example.org:7443 --directory /var/lib/bdw-fed/agent \\
      --credentials /etc/bdw-fed/agent --data-root /srv/data
"""


def command(
    cluster: Annotated[str, Option(("--cluster",), "Name of the cluster in the topology.", "NAME")],
    hub: Annotated[list[str], Option(("--hub",), "Address of a hub, HOST:PORT. Repeatable.", "ADDRESS")],
    directory: Directory,
    credentials: Credentials,
    data_root: Annotated[Path, Option(("--data-root",), "What datasets' paths are relative to.", "DIR")],
    listen_nodes: Annotated[str, Option(("--listen-nodes",), "Where node daemons attach.", "ADDRESS")] = "0.0.0.0:7444",
    listen_peers: Annotated[str, Option(("--listen-peers",), "Where other clusters dial.", "ADDRESS")] = "0.0.0.0:7445",
    advertise_peers: Annotated[
        str, Option(("--advertise-peers",), "Where other clusters dial, if that differs.", "ADDRESS")
    ] = "",
    durability: Annotated[
        str, Option(("--durability",), "What the log survives: power (fsync) or process.", "power|process")
    ] = "power",
    listen_health: ListenHealth = "",
    log_level: LogLevel = "warning",
) -> None:
    """Run the agent of one cluster, in the foreground, until SIGTERM."""
    from bdw_fed.cli.service import say_ready
    from cluster_agent.agent import AgentConfig, serve
    from wire.identity import Credentials as Files
    from wire.logging import configure
    from wire.service import run_service

    configure("agent", cluster, level=log_level)
    config = AgentConfig(
        cluster=cluster,
        state=directory,
        hub=hub,
        credentials=Files.load(credentials),
        listen_nodes=listen_nodes,
        listen_peers=listen_peers,
        data_root=data_root,
        durability=durability,
        advertise_peers=advertise_peers,
    )
    run_service(serve, config, say_ready, listen_health)
