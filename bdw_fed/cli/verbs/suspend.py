"""`suspend`: let a run pause."""

from __future__ import annotations

from bdw_fed.cli.options import Namespace, RunName, State, connect
from bdw_fed.cli.output import word

EXAMPLES = """\
  bdw-fed suspend delays-x7k2p
"""


def command(run: RunName, namespace: Namespace = None, state: State = None) -> None:
    """Start no further tasks of a run; those under way end, and all that is done is kept."""
    from bdw_fed.v1 import model_pb2 as model

    with connect(state, namespace) as client:
        changed = client.suspend(run)
    print(f"run {changed.name} is {word(model.RunState, changed.state)}")
