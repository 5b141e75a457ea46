"""The story of a trial that went wrong: what happened to the run, the unit or the task that the violation names.

trial, lived again ─ everything that happens ─▶ Story ─ what the violation is about ─▶ lines, in their order
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cluster_agent.coordinator.messages import Place, RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.orders.messages import Output, UnitInfo
from simulator.trials.scenario import Scenario
from simulator.trials.trial import Verdict, tried

_LINES = 60
_ROUNDING = 0.001
_TIMED = re.compile(r"\d+\.\d+: ")
_ID = re.compile(r"\b[0-9a-f]{32}\b")


def story(scenario: Scenario, verdict: Verdict, most: int = _LINES) -> list[str]:
    """What led to the first violation, the newest last: at most so many lines, and how many were left out."""
    told: list[tuple[float, str, object]] = []
    tried(scenario, note=lambda when, where, what: told.append((when, where, what)))
    violation = verdict.violations[0] if verdict.violations else ""
    ids = {bytes.fromhex(found) for found in _ID.findall(violation)}
    runs = {each.run for each in scenario.submissions if re.search(rf"\b{re.escape(each.run)}\b", violation)}
    lines = [(fault.at, f"{fault.at:10.3f}  fault     {fault}") for fault in scenario.faults]
    for when, where, what in told:
        if isinstance(what, Record):
            if (ids and not _names(what, ids)) or (not ids and runs and not _of_runs(what, runs)):
                continue
            lines.append((when, f"{when:10.3f}  {where:<9} {_shown(what)}"))
        elif isinstance(what, str):
            lines.append((when, f"{when:10.3f}  {where:<9} {what}"))
    noticed = float(violation.partition(":")[0]) if _TIMED.match(violation) else float("inf")
    lines = sorted((line for line in lines if line[0] <= noticed + _ROUNDING), key=lambda line: line[0])
    shown = [line for _, line in lines[-most:]]
    left_out = len(lines) - len(shown)
    return ([f"({left_out} earlier lines are left out)"] if left_out else []) + shown


def _of_runs(record: Record, runs: set[str]) -> bool:
    run = getattr(record, "run", None)
    return not isinstance(run, RunKey) or run.run in runs


def _names(value: Any, ids: set[bytes]) -> bool:
    """Whether one of the ids is anywhere in it."""
    if isinstance(value, bytes):
        return value in ids
    if isinstance(value, tuple | list):
        return any(_names(each, ids) for each in value)
    if isinstance(value, msgspec.Struct):
        return any(_names(getattr(value, name), ids) for name in value.__struct_fields__)
    return False


def _shown(record: Record) -> str:
    fields = [f"{name}={_short(getattr(record, name))}" for name in record.__struct_fields__ if name != "fragment"]
    return f"{type(record).__name__} {' '.join(fields)}"


def _short(value: Any) -> str:
    match value:
        case bytes():
            return value.hex()[:8] or "-"
        case RunKey():
            return value.run
        case Place():
            return f"{value.cluster}/{value.node}"
        case Output():
            return f"{value.port}[{value.index}]:{_short(value.unit)}"
        case UnitInfo():
            return value.id.hex()[:8]
        case float():
            return f"{value:.3f}"
        case tuple() | list():
            few = ",".join(_short(each) for each in value[:4])
            return f"({few}{',…' if len(value) > 4 else ''})"
        case dict():
            return "{" + ",".join(f"{name}:{_short(each)}" for name, each in value.items()) + "}"
        case _:
            return str(value)
