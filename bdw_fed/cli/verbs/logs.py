"""`logs`: what the tasks of a run print."""

from __future__ import annotations

import sys
from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import UsageError
from bdw_fed.cli.options import Agent, Namespace, RunName, State, connect

EXAMPLES = """\
  bdw-fed logs delays-x7k2p
  bdw-fed logs -f delays-x7k2p --step join
  bdw-fed logs delays-x7k2p --cluster edge-jfk --task 5f2c9a
"""


def command(
    run: RunName,
    follow: Annotated[bool, Option(("--follow", "-f"), "Go on until the run has ended.")] = False,
    step: Annotated[str, Option(("--step",), "Only this step.", "NAME")] = "",
    cluster: Annotated[str, Option(("--cluster",), "Only this cluster.", "NAME", "cluster")] = "",
    task: Annotated[str, Option(("--task",), "Only this task, by its id in hexadecimal.", "ID")] = "",
    agent: Agent = "",
    namespace: Namespace = None,
    state: State = None,
) -> None:
    """Show what the tasks of a run print, each line with where it comes from."""
    try:
        task_id = bytes.fromhex(task)
    except ValueError as error:
        raise UsageError(f"--task {task}: expected an id in hexadecimal, as 'describe run' shows it") from error
    with connect(state, namespace, agent) as client:
        for piece in client.logs(run, step=step, cluster=cluster, task=task_id, follow=follow):
            where = f"{piece.step} {piece.cluster}/{piece.node} {piece.task.hex()[:8]}"
            if piece.left_out:
                sys.stdout.write(f"[{where}] ({piece.left_out} bytes left out)\n")
            for line in piece.data.decode("utf-8", "replace").splitlines():
                sys.stdout.write(f"[{where}] {line}\n")
            sys.stdout.flush()
