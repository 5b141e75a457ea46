"""`kind status`: what there is of the kind environment, and whether all is well."""

from __future__ import annotations

from bdw_fed.cli.options import Output
from bdw_fed.cli.output import Format
from bdw_fed.cli.verbs.kind_up import KindState

EXAMPLES = """\
  bdw-fed kind status
  bdw-fed kind status -o json
"""


def command(output: Output = Format.TABLE, state: KindState = None) -> int:
    """Show the kind clusters with their nodes and our pods, partitions and limits, and who the hub sees.

    Exits 0 if all of it is ready, 1 if something is not.
    """
    from bdw_fed.cli.kind import show_status

    return show_status(state, output)
