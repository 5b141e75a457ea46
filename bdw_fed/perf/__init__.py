"""What a step costs on this machine: cases that are measured beside what the machine makes unavoidable.

    case ─▶ floor (a process of its own) ─▶ federation in a directory of its own ─▶ warm-up ─▶ runs ─▶ Result

Each case is a module that makes its steps and workflow, runs them in an embedded federation that nobody else uses, and
takes the times from the coordinator's own events. `CASES` names them.
"""

from __future__ import annotations

from bdw_fed.perf.base import Case, PerfError, Result, Series, Target
from bdw_fed.perf.catch_up import CatchUp
from bdw_fed.perf.chain import Chain
from bdw_fed.perf.command import Command
from bdw_fed.perf.dispatch import Dispatch
from bdw_fed.perf.fanout import Fanout
from bdw_fed.perf.pipeline import Pipeline
from bdw_fed.perf.split import Split
from bdw_fed.perf.start import Start
from bdw_fed.perf.transfer import Transfer

__all__ = ["CASES", "Case", "PerfError", "Result", "Series", "Target"]

CASES: dict[str, Case] = {
    case.name: case
    for case in (Chain(), Fanout(), Command(), Pipeline(), Split(), Transfer(), Dispatch(), CatchUp(), Start())
}
