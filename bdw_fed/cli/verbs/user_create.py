"""`user create`: a certificate and a role for somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.exits import CONFLICT, RefusedError, UsageError
from bdw_fed.cli.options import State
from bdw_fed.cli.roles import Granted, InNamespace, number_of, said

EXAMPLES = """\
  bdw-fed user create eve --role expert --namespace flights
  bdw-fed user create eve --role viewer --authority ~/federation/ca --to ~/for-eve
"""


def command(
    name: Annotated[str, Argument("The user's name, as it will be in the certificate.", "NAME")],
    role: Granted,
    namespace: InNamespace = None,
    to: Annotated[
        Path | None, Option(("--to",), "Where to put what the user gets. Default: a directory of their name.", "DIR")
    ] = None,
    authority: Annotated[
        Path | None,
        Option(("--authority",), "The federation's authority: ca.pem, ca-key.pem. Default: ca in the state.", "DIR"),
    ] = None,
    days: Annotated[float, Option(("--days",), "How long the certificate is good.", "NUMBER")] = 90.0,
    state: State = None,
) -> None:
    """Make a user's certificate, and give them a role. Takes an admin who has the authority's key.

    The user gets the directory and names it with --state, or in BDW_FED_STATE.
    """
    from bdw_fed.client import SyncClient
    from bdw_fed.client.connection import Profile, default_state, find_profile
    from wire.identity.authority import Authority
    from wire.identity.roles import Identity, Role

    try:
        identity = Identity(Role.USER, name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    place = authority or (state or default_state()) / "ca"
    try:
        issuer = Authority.open(place)
    except FileNotFoundError as error:
        raise UsageError(
            f"{error.filename}: no such file; name the directory with the authority's ca.pem and ca-key.pem: "
            "--authority DIR"
        ) from error
    folder = to or Path(name)
    if (folder / "cert.pem").exists():
        raise RefusedError(f"{folder} has a certificate already: name another directory with --to DIR", CONFLICT)
    profile = find_profile(state)
    with SyncClient(profile) as client:
        client.grant_role(name, number_of(role), namespace=namespace)
    issuer.issue(identity, folder, days=days, loopback=False)
    Profile(profile.hub, folder, namespace or profile.namespace).write(folder)
    print(said(name, role, namespace))
    print(f"{folder} is theirs: bdw-fed get runs --state {folder}")
