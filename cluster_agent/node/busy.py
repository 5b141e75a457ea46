"""A worker with small jobs, the tasks that those are, and what is told of several of them at once.

These are the records that `small` keeps; the decisions stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cluster_agent.node.logs import LogName, Logs, TaskLog
from cluster_agent.node.messages import Given, TaskKey
from cluster_agent.node.works import Assignment, Done
from cluster_agent.runtimes.base import SmallJob, Worker


class SmallTask(SmallJob):
    """A task with a worker. Its log is made when it writes something."""

    __slots__ = ("after", "ahead", "assignment", "given", "given_at", "log", "logs")

    def __init__(
        self,
        task: Assignment,
        given: Given,
        inputs: Sequence[bytes],
        logs: Logs,
        now: float,
        link: int = -1,
    ) -> None:
        assert task.work.small is not None
        super().__init__(task.work.small, task.key.task.hex(), task.key.attempt, inputs, link)
        self.after: SmallTask | None = None  # the next of its row
        self.ahead = link >= 0  # the core does not know of it
        self.assignment = task
        self.given = given
        self.given_at = now
        self.logs = logs
        self.log: TaskLog | None = None

    def write(self, stream: int, data: bytes) -> None:
        if self.log is None:
            key = self.assignment.key
            name = LogName(key.namespace, key.run, self.assignment.work.step, key.task, key.attempt)
            self.log = self.logs.open(name)
        self.log.write(stream, data)

    def close(self) -> None:
        """It writes no more."""
        if self.log is not None:
            self.log.close()


class Busy:
    """A worker with small jobs."""

    def __init__(self, number: int, worker: Worker) -> None:
        self.number = number
        self.worker = worker
        self.tasks: dict[TaskKey, SmallTask] = {}
        self.killed = False
        self.at: SmallJob | None = None  # since when, as far as we have looked
        self.since = 0.0

    def cut(self, task: SmallTask) -> None:
        """Nothing is to follow a task in its row. What the worker has begun all the same is not heard."""
        after, task.after = task.after, None
        while after is not None:
            self.tasks.pop(after.assignment.key, None)
            after = after.after

    def give_up(self, job: SmallJob | None) -> list[TaskKey]:
        """The worker does not execute a task, if there is one; its key, if the core knows of it."""
        task = cast("SmallTask | None", job)
        if task is None or self.tasks.get(task.assignment.key) is not task:
            return []
        del self.tasks[task.assignment.key]
        return [] if task.ahead else [task.assignment.key]


class Told:
    """Of the ends that one worker tells at once: what is to be told of them."""

    def __init__(self) -> None:
        self.ended: list[TaskKey] = []
        self.ahead: list[TaskKey] = []
        self.heavy: list[TaskKey] = []
        self.done: list[Done] = []
        self.seconds = 0.0
        self.wanted = True  # the row that is being heard of
        self.at: SmallTask | None = None  # where the worker has gone on to in it
