"""Which hooks of a run are to be executed once it has ended, pure. Each becomes a run of its own, see `api/hooks`."""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2 as m
from control_plane.runs.forms import copy_of, state_word
from control_plane.runs.messages import Action, HookBegun, StoreRun
from wire.lines import LONGEST

_WORDS: Final = {m.RUN_STATE_SUCCEEDED: "success", m.RUN_STATE_FAILED: "failure"}


def fall_due(fresh: m.Run) -> None:
    """The run has ended just now: of its hooks those are due that are for this end."""
    del fresh.hooks_due[:]
    fresh.hooks_due.extend(hook for hook in fresh.hooks if hook in ("exit", _WORDS.get(fresh.state)))


def begun(run: m.Run, event: HookBegun) -> list[Action]:
    """One is a run now."""
    if event.hook not in run.hooks_due:
        return []
    fresh = copy_of(run)
    fresh.hooks_due.remove(event.hook)
    return [StoreRun(fresh)]


def name_of(run: m.Run, hook: str) -> str:
    """The name of the run that executes a hook: the same whoever asks, and another one after each try."""
    end = f"-{hook}" + (f"-{run.tries + 1}" if run.tries else "")
    return run.name[: LONGEST - len(end)].rstrip("-.") + end


def facts_of(run: m.Run) -> dict[str, str]:
    """What a hook can be told of the run."""
    return {"name": run.name, "workflow": run.workflow, "state": state_word(run.state), "message": run.message}
