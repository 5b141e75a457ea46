"""`agent join`: make this machine's agent a member."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import UNAVAILABLE, RefusedError, UsageError

EXAMPLES = """\
  bdw-fed agent join hub.example.org:7442 --token 0f3c9a51d2.6b… --ca-hash sha256:5d0c…
  bdw-fed agent join hub.example.org:7442 --token-file token --ca-hash sha256:5d0c… --cluster edge1
"""
CaHash = Annotated[str, Option(("--ca-hash",), "Hash of the federation's authority, sha256:HEX.", "HASH")]
CREDENTIALS = "credentials"  # below the service's directory, where it looks for them


def command(
    hub: Annotated[str, Argument("Where clusters join, HOST:PORT, as 'token create' prints it.", "HUB")],
    ca_hash: CaHash,
    token: Annotated[str, Option(("--token",), "The token, as 'token create' prints it.", "TOKEN")] = "",
    token_file: Annotated[
        Path | None, Option(("--token-file",), "A file with the token, which others on this machine then can't see.")
    ] = None,
    directory: Annotated[
        Path, Option(("--directory",), "Where the agent keeps its state; its credentials are below.", "DIR")
    ] = Path("/var/lib/bdw-fed/agent"),
    cluster: Annotated[str, Option(("--cluster",), "Refuse a token that is for another cluster.", "NAME")] = "",
) -> None:
    """Make a key, and get a certificate for it. The key never leaves this machine.

    The token goes only to a hub that is certified by the authority with the hash. Called again it goes on where it was.
    """
    import asyncio
    import sys

    from cluster_agent.membership.errors import JoinError, NotNowError
    from cluster_agent.membership.first import remember
    from cluster_agent.membership.join import join
    from cluster_agent.membership.node_token import FILE as NODE_TOKEN
    from wire.identity import Identity, Role
    from wire.identity.requests import identity_in

    presented = token or (token_file.read_text().strip() if token_file else "")
    if not presented:
        raise UsageError("--token or --token-file: the token is needed; bdw-fed token create makes one")

    def waiting(name: str, key: str) -> None:
        print(f"waiting to be accepted as {name}, with the key {key}", file=sys.stderr)
        print(f"an operator does that with: bdw-fed cluster accept {name}", file=sys.stderr)

    place = directory / CREDENTIALS
    server = Identity(Role.HUB, "hub")
    try:
        joined = asyncio.run(join(hub, server, presented, ca_hash, place, cluster=cluster, waiting=waiting))
    except JoinError as error:
        raise RefusedError(str(error)) from error
    except NotNowError as error:
        raise RefusedError(str(error), UNAVAILABLE) from error
    remember(place, presented)
    (directory / NODE_TOKEN).unlink(missing_ok=True)  # nodes of a new member have to be let in anew
    print(f"joined as {identity_in(joined).cluster}; credentials are in {place}")
