"""`cancel`: stop a run for good."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Agent, Namespace, RunName, State, connect
from bdw_fed.cli.output import word

EXAMPLES = """\
  bdw-fed cancel delays-x7k2p
  bdw-fed cancel delays-x7k2p --reason "wrong month" --wait
"""


def command(
    run: RunName,
    reason: Annotated[str, Option(("--reason",), "Why, for who looks at the run later.", "TEXT")] = "",
    wait: Annotated[bool, Option(("--wait", "-w"), "Until nothing of it runs any more.")] = False,
    agent: Agent = "",
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Stop a run for good; its tasks are ended."""
    from bdw_fed.v1 import model_pb2 as model

    with connect(state, namespace, agent) as client:
        changed = client.cancel(run, reason=reason)
        if wait:
            changed = client.wait(run)
    print(f"run {changed.name} is {word(model.RunState, changed.state)}")
