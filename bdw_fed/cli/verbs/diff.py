"""`diff`: what apply would change."""

from __future__ import annotations

from bdw_fed.cli.exits import NEGATIVE, OK
from bdw_fed.cli.options import Namespace, State, connect
from bdw_fed.cli.verbs.apply import Files

EXAMPLES = """\
  bdw-fed diff -f examples/flights
  bdw-fed diff -f workflow.yaml || echo "there is something to apply"
"""


def command(filename: Files, namespace: Namespace = None, state: State = None) -> int:
    """Show what 'apply' of the same files would change.

    Exit code 0: nothing; 1: something.
    """
    from bdw_fed.cli.files import read_documents
    from bdw_fed.v1 import control_plane_pb2 as pb

    with connect(state, namespace) as client:
        entries = client.diff(read_documents(filename, client.profile.data_root))
    changed = [entry for entry in entries if entry.change != pb.CHANGE_UNCHANGED]
    for entry in changed:
        if entry.unified:
            print(entry.unified.rstrip("\n"))
        else:
            print(f"{entry.kind.lower()}/{entry.name} {'created' if entry.change == pb.CHANGE_CREATED else 'changed'}")
    return NEGATIVE if changed else OK
