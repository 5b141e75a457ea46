"""`delete`: remove a definition, or a run with its outputs."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.kinds import kind_and_name
from bdw_fed.cli.options import Namespace, State, connect

EXAMPLES = """\
  bdw-fed delete workflow delays
  bdw-fed delete step/clean-flights@1
  bdw-fed delete run delays-x7k2p      also frees what it keeps on the clusters
"""


def command(
    kind: Annotated[str, Argument("Kind, or KIND/NAME.", "KIND", "kind")],
    name: Annotated[str | None, Argument("Name.", "NAME")] = None,
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Remove a definition, or a run that has ended with all that it keeps."""
    kind, name = kind_and_name(kind, name)
    with connect(state, namespace) as client:
        client.delete(kind, name)
    print(f"{kind.lower()}/{name} deleted")
