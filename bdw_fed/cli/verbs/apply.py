"""`apply`: store definitions, all of them or none."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import print_warnings
from bdw_fed.cli.options import Namespace, Output, State, connect
from bdw_fed.cli.output import Format, plain, show_values, word

EXAMPLES = """\
  bdw-fed apply -f examples/flights          all YAML files in the directory and below
  bdw-fed apply -f steps.yaml -f delays.yaml
  cat workflow.yaml | bdw-fed apply -f -
  bdw-fed apply -f workflow.yaml --dry-run   is it valid, and what would change?
"""

Files = Annotated[
    list[str], Option(("--filename", "-f"), "File, directory, or - for standard input. Repeatable.", "PATH")
]


def command(
    filename: Files,
    dry_run: Annotated[bool, Option(("--dry-run",), "Check and say what would change; store nothing.")] = False,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> int | None:
    """Create or change steps, workflows and topologies from YAML.

    A step's code directory (run.bundle, relative to its file) is packed and sent when the hub does not have it yet.
    """
    from bdw_fed.cli.files import read_documents
    from bdw_fed.v1 import control_plane_pb2 as pb

    with connect(state, namespace) as client:
        documents = read_documents(filename, client.profile.data_root)
        applied = client.apply(documents, dry_run=dry_run)
    for item in applied:
        print_warnings(item.warnings)
    if output in (Format.JSON, Format.YAML):
        show_values([plain(item) for item in applied], output)
        return None
    for item in applied:
        thing = f"{item.object.kind.lower()}/{item.object.name}"
        if output is Format.NAME:
            print(thing)
        else:
            print(f"{thing} {word(pb.Change, item.change)}{' (dry run)' if dry_run else ''}")
    return None
