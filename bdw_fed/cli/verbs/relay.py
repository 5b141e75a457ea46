"""`relay`: a door of its own, for clusters of which neither can dial the other."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.verbs.server import Credentials, ListenHealth, LogLevel

EXAMPLES = """\
  bdw-fed relay --name r1 --credentials /etc/bdw-fed/relay --listen 0.0.0.0:7447 --listen-health 0.0.0.0:7449
"""


def command(
    name: Annotated[str, Option(("--name",), "Its name in the topology.", "NAME")],
    credentials: Credentials,
    listen: Annotated[str, Option(("--listen",), "Where agents and nodes dial it.", "ADDRESS")] = "0.0.0.0:7447",
    hub: Annotated[
        list[str] | None,
        Option(("--hub",), "Address of a hub, HOST:PORT, that renews its certificate. Repeatable.", "ADDRESS"),
    ] = None,
    connections: Annotated[int, Option(("--connections",), "That pass through at a time.", "NUMBER")] = 2048,
    of_a_cluster: Annotated[int, Option(("--of-a-cluster",), "Of these, at most one cluster's.", "NUMBER")] = 512,
    listen_health: ListenHealth = "",
    log_level: LogLevel = "warning",
) -> None:
    """Run a relay, in the foreground, until SIGTERM. What it passes on is encrypted from end to end.

    It keeps nothing on disk but its credentials, of the role relay, which `bdw-fed relay manifest` makes. With --hub it
    has them renewed. With --listen-health it also tells at /metrics what it has passed on between whom.
    """
    from bdw_fed.cli.exits import UsageError
    from bdw_fed.cli.service import say_ready
    from cluster_agent.relay.core import Limits
    from cluster_agent.relay.service import RelayConfig, serve
    from wire.identity import Credentials as Files
    from wire.logging import configure
    from wire.service import run_service

    if not 1 <= of_a_cluster <= connections:
        raise UsageError(f"--of-a-cluster: {of_a_cluster} is not between 1 and the {connections} of --connections")
    configure("relay", name, level=log_level)
    config = RelayConfig(
        name=name,
        listen=listen,
        credentials=Files.load(credentials),
        hub=tuple(hub or ()),
        limits=Limits(connections=connections, of_a_cluster=of_a_cluster),
    )
    run_service(serve, config, say_ready, listen_health, config.counts.text)
