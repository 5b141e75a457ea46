"""catch-up: how long until the hub knows what was done while it was away.

    ten runs wait at a gate ─▶ the hub stands still ─▶ the gate opens, and they end at their cluster
    ─▶ the hub goes on ─▶ it shows all of it

The hub is stopped by a signal, so to its agent it is neither there nor gone: their session ends by its keepalive. It
stays so until the agent says that all runs have ended, and for longer than the keepalive takes, so that a new session
has to be opened and all of it said there. The gate is a named pipe that a step opens for reading: that takes until
somebody has opened it for writing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bdw_fed.client import SyncClient
from bdw_fed.embedded import control
from bdw_fed.perf.base import Case, PerfError, Result, Series, Settings, Target
from bdw_fed.perf.fanout import STEP, lines
from bdw_fed.perf.federation import DATASET, Federation, federation, scratch, value_step

_RUNS = 10
_PER = 10_000  # tasks, for which a second is allowed
_AWAY_SECONDS = 20.0  # at least; the keepalive of a session takes fifteen
_RUN_SECONDS = 600.0


class CatchUp(Case):
    """ms for 10,000 tasks; one sample each time that the hub was away."""

    name = "catch-up"
    size = 40_000
    counts = "tasks while the hub is away"
    least = _RUNS

    def measure(self, settings: Settings) -> Result:
        """See Case."""
        tasks = settings.size // _RUNS * _RUNS
        with scratch() as place, federation(place, lines(tasks // _RUNS), durability=settings.durability) as one:
            gate = place / "gate"
            os.mkfifo(gate, mode=0o600)
            one.apply(value_step("add-one"), _passing(gate), _workflow())
            taken = [_caught_up(one, place / "state", gate, tasks) for _ in range(settings.repetitions)]
            start_seconds = one.start_seconds
        return Result(
            self.name,
            tasks,
            settings.durability,
            start_seconds,
            Series(
                f"{_PER:,} tasks",
                "from the hub's going on until it shows ten runs as ended, with all of their tasks",
                [seconds * 1000 * _PER / tasks for seconds in taken],
                [Target(1000)],
            ),
            [Series("all", "the same, of all tasks", [seconds * 1000 for seconds in taken])],
        )


def _passing(gate: Path) -> str:
    return f"""\
kind: Step
metadata: {{name: pass-on, version: "1"}}
spec:
  run: {{command: [sh, -c, ': < "$0"; cp "$1" "$2"', {gate}, "{{in.rows}}", "{{out.rows}}"]}}
  inputs: {{rows: {{}}}}
  outputs: {{rows: {{}}}}
"""


def _workflow() -> str:
    return f"""\
kind: Workflow
metadata: {{name: {CatchUp.name}}}
spec:
  inputs: {{numbers: {{dataset: {DATASET}}}}}
  steps:
    - {{name: gate, use: pass-on@1, in: {{rows: inputs.numbers}}}}
    - {{name: {STEP}, use: add-one@1, in: {{unit: {{from: gate.rows, split: {{lines: 1}}}}}}}}
"""


def _caught_up(one: Federation, state: Path, gate: Path, tasks: int) -> float:
    """Keep the hub away from ten runs; the seconds that it then takes to know all of them."""
    hub, agent = (_process(state, role) for role in ("hub", "agent"))
    asked = replace(one.client.profile, hub=agent["addresses"]["peers"], agent=agent["cluster"])
    names = [one.client.submit(CatchUp.name).run.name for _ in range(_RUNS)]
    os.kill(hub["pid"], signal.SIGSTOP)
    stopped = time.monotonic()
    opened = os.open(gate, os.O_RDWR)  # waits for nobody
    try:
        with SyncClient(asked) as client:
            for name in names:
                client.wait(name, timeout=_RUN_SECONDS)
            _check(client, names, tasks)
        time.sleep(max(0.0, stopped + _AWAY_SECONDS - time.monotonic()))
    finally:
        os.close(opened)
        os.kill(hub["pid"], signal.SIGCONT)
    began = time.monotonic()
    for name in names:
        one.ended(name)
    taken = time.monotonic() - began
    _check(one.client, names, tasks)
    return taken


def _check(client: SyncClient, names: Sequence[str], tasks: int) -> None:
    fragments = (fragment for name in names for fragment in client.get_run(name).fragments.values())
    done = sum(told.done for fragment in fragments for told in fragment.steps if told.step == STEP)
    if done != tasks:
        raise PerfError(f"{done} tasks are known of runs that have ended, expected {tasks}")


def _process(state: Path, role: str) -> dict[str, Any]:
    running = control.look(state)
    for process in running.processes if running is not None else ():
        if process["role"] == role:
            return process
    raise PerfError(f"the federation in {state} has no {role} just now")
