"""`user revoke`: take a role away."""

from __future__ import annotations

from bdw_fed.cli.options import State, connect
from bdw_fed.cli.roles import InNamespace, Subject

EXAMPLES = """\
  bdw-fed user revoke eve --namespace flights
  bdw-fed user revoke group:data-team
"""


def command(user: Subject, namespace: InNamespace = None, state: State = None) -> None:
    """Take the role away that somebody has in a namespace, or in all of them. Takes an admin.

    It ends their streams, too. Roles that they have elsewhere, or by a group, stay.
    """
    with connect(state, None) as client:
        client.revoke_role(user, namespace=namespace)
    where = f"namespace {namespace}" if namespace else "all namespaces"
    print(f"{user} has lost their role in {where}")
