"""`events`: what happened, as it happened."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.options import Agent, Namespace, Output, State, connect
from bdw_fed.cli.output import Format, plain

if TYPE_CHECKING:
    from bdw_fed.v1 import model_pb2 as model

EXAMPLES = """\
  bdw-fed events delays-x7k2p
  bdw-fed events -f                     of all runs, as they happen
  bdw-fed events -f delays-x7k2p -o json | jq .type
"""


def _in_order(events: Iterable[model.Event]) -> list[model.Event]:
    """What several clusters tell, by their clocks; the events of one keep their order."""
    return sorted(events, key=lambda event: event.time)


def command(
    run: Annotated[str, Argument("Only of this run.", "RUN", "run")] = "",
    follow: Annotated[bool, Option(("--follow", "-f"), "Go on with what happens from now on.")] = False,
    output: Output = Format.TABLE,
    agent: Agent = "",
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Show the events of a run, or of all."""
    with connect(state, namespace, agent) as client:
        events = client.events(run, follow=follow)
        for event in events if follow else _in_order(events):
            if event.left_out:
                print(f"({event.left_out} events left out)", flush=True)
            if output.for_people:
                clock = time.strftime("%H:%M:%S", time.localtime(event.time))
                kind = event.type.removeprefix("io.bdw-fed.")
                print(f"{clock}  {kind:<16}  {event.subject}  {event.data_json}".rstrip(), flush=True)
            elif output is Format.NAME:
                print(event.id, flush=True)
            else:
                print(json.dumps(plain(event)), flush=True)  # JSON lines are YAML documents too
