"""`user grant`: give somebody a role."""

from __future__ import annotations

from bdw_fed.cli.options import State, connect
from bdw_fed.cli.roles import Granted, InNamespace, Subject, number_of, said

EXAMPLES = """\
  bdw-fed user grant eve --role expert --namespace flights
  bdw-fed user grant oidc:eve@example.org --role operator
  bdw-fed user grant group:data-team --role engineer -n flights
"""


def command(user: Subject, role: Granted, namespace: InNamespace = None, state: State = None) -> None:
    """Give somebody a role, in place of the one that they had there. Takes an admin."""
    with connect(state, None) as client:
        client.grant_role(user, number_of(role), namespace=namespace)
    print(said(user, role, namespace))
