"""`resume`: let a suspended run go on."""

from __future__ import annotations

from bdw_fed.cli.options import Namespace, RunName, State, connect
from bdw_fed.cli.output import word

EXAMPLES = """\
  bdw-fed resume delays-x7k2p
"""


def command(run: RunName, namespace: Namespace = None, state: State = None) -> None:
    """Let a suspended run go on where it was."""
    from bdw_fed.v1 import model_pb2 as model

    with connect(state, namespace) as client:
        changed = client.resume(run)
    print(f"run {changed.name} is {word(model.RunState, changed.state)}")
