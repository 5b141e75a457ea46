"""Events that tests give to a node core, and what they read of its actions."""

from __future__ import annotations

from cluster_agent.node import messages
from cluster_agent.node.messages import PoolSpec, TaskKey


def key(number: int, run: str = "run1", attempt: int = 1) -> TaskKey:
    return TaskKey("default", run, number.to_bytes(16, "big"), attempt)


def wanted(pool: PoolSpec, *numbers: int, light: bool = False) -> messages.TasksWanted:
    return messages.TasksWanted(pool, [messages.Wanted(key(number), light) for number in numbers])


def executions(actions: list[messages.Action]) -> dict[int | None, list[TaskKey]]:
    """The tasks that each worker is to execute."""
    given: dict[int | None, list[TaskKey]] = {}
    for action in actions:
        if isinstance(action, messages.Execute):
            given.setdefault(action.worker, []).extend(task.key for task in action.tasks)
    return given


def given_back(actions: list[messages.Action]) -> list[TaskKey]:
    return sorted(action.key for action in actions if isinstance(action, messages.GiveBack))


def started(actions: list[messages.Action]) -> list[int]:
    return [action.worker for action in actions if isinstance(action, messages.StartWorker)]


def as_small(actions: list[messages.Action]) -> list[bool]:
    return [action.small for action in actions if isinstance(action, messages.Execute)]


def ahead(actions: list[messages.Action]) -> list[int]:
    return [action.ahead for action in actions if isinstance(action, messages.Execute)]
