"""DBOS with SQLite as its system database: a workflow whose steps are each committed there before the next begins.

Steps run in this process. DBOS leaves SQLite's settings as they come: a rollback journal, synced at every commit, so
a step's result survives a loss of power.
"""

from __future__ import annotations

from pathlib import Path

from dbos import DBOS, DBOSConfig

from engines.base import Keeps, TimedEngine


@DBOS.step()
def add_one(value: int) -> int:
    """The step."""
    return value + 1


@DBOS.workflow()
def chained(steps: int) -> int:
    """Each step's input is the former's output."""
    value = 0
    for _ in range(steps):
        value = add_one(value)
    return value


@DBOS.workflow()
def fanned(units: int) -> int:
    """One step for each number below `units`, one after another: gathering coroutines took half as long again."""
    return sum(add_one(unit) for unit in range(units))


class Dbos(TimedEngine):
    """One durable workflow for a repetition."""

    distribution = "dbos"
    keeps = Keeps.POWER
    steps_run_in = "the engine's process"

    def start(self, state: Path) -> None:
        config: DBOSConfig = {
            "name": "peers",
            "system_database_url": f"sqlite:///{state / 'system.sqlite'}",
            "enable_otlp": False,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        DBOS.launch()

    def stop(self) -> None:
        DBOS.destroy()

    def chain(self, steps: int) -> int:
        return int(chained(steps))

    def fanout(self, units: int) -> int:
        return int(fanned(units))
