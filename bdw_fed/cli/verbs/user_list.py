"""`user list`: who has which role."""

from __future__ import annotations

from bdw_fed.cli.options import Output, State, connect
from bdw_fed.cli.output import Format, plain, show_table, show_values, word
from bdw_fed.cli.quantities import age, wall_clock
from bdw_fed.cli.roles import InNamespace

EXAMPLES = """\
  bdw-fed user list
  bdw-fed user list --namespace flights      who may do something there
"""


def command(namespace: InNamespace = None, output: Output = Format.TABLE, state: State = None) -> None:
    """List the roles that were granted. Takes an admin."""
    from bdw_fed.v1 import access_pb2

    with connect(state, None) as client:
        bindings = client.roles(namespace=namespace)
    if output is Format.NAME:
        for binding in bindings:
            print(binding.subject)
    elif output.for_people:
        rows = []
        for binding in bindings:
            role, ago = word(access_pb2.Role, binding.role), age(binding.granted_at, wall_clock())
            rows.append([binding.subject, role, binding.namespace or "(all)", binding.granted_by, ago])
        show_table(["USER", "ROLE", "NAMESPACE", "BY", "AGE"], rows)
    else:
        show_values([plain(binding) for binding in bindings], output)
