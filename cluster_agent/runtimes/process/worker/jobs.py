"""What the worker is told to do: jobs, what many of them have in common, and the environment that they see."""

from __future__ import annotations

import json
import os
from typing import Any

from .frames import Message
from .values import Values, keyword


class Work:
    """What many small jobs have in common."""

    def __init__(self, told: Message, environment: dict[bytes, bytes]) -> None:
        self.environment = {**environment, **encoded(told["env"])}
        self.values = Values(told["values"]) if told["values"] else None
        values = self.values or Values(({}, {}))
        self.inputs: list[tuple[str, str]] = [(keyword(port), name) for port, name in told["inputs"]]
        self.outputs: list[tuple[str, str]] = [(port, name) for port, name in told["outputs"]]
        self.files_in = [(at, *put) for at, put in enumerate(self.inputs) if put[0] not in values.inputs]
        self.files_out = [put for put in self.outputs if put[0] not in values.outputs]
        self.values_in = [(at, port) for at, (port, _) in enumerate(self.inputs) if port in values.inputs]
        self.filed = bool(self.files_in or self.files_out) or self.values is None  # whether it has its directories
        self.out = bool(self.files_out) or self.values is None  # whether the function is called with `out`
        self.parameters: str = json.dumps({keyword(name): value for name, value in told["parameters"].items()})
        self.simple: dict[str, Any] | None = json.loads(self.parameters)
        if any(isinstance(value, (list, dict)) for value in told["parameters"].values()):
            self.simple = None  # a function may change them, so each call gets its own


class Job:
    """A task that was told and is not done. Without a work it is a `run`, and `told` its message.

    `link`: which output of the job before it is its input; -1 if it is not linked, or that is known.
    """

    __slots__ = ("attempt", "inputs", "link", "number", "task", "told", "work")

    def __init__(
        self,
        number: int,
        work: Work | None,
        task: str,
        attempt: int,
        inputs: list[bytes],
        told: Message,
        link: int = -1,
    ) -> None:
        self.number = number
        self.work = work
        self.task = task
        self.attempt = attempt
        self.inputs = inputs
        self.told = told
        self.link = link


def encoded(environment: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def adopt(wanted: dict[bytes, bytes]) -> None:
    """Make the environment this one, touching only what differs."""
    environment = os.environb
    there: dict[bytes, bytes] = environment._data  # type: ignore[attr-defined]  # as its items are, ten times as quick
    for name, value in wanted.items() - there.items():
        environment[name] = value
    if len(there) != len(wanted):
        for name in there.keys() - wanted.keys():
            del environment[name]


def dress(environment: dict[bytes, bytes], job: Job) -> None:
    """Have the environment of a job, given that of its work as it was for the job before."""
    there: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]
    task, attempt = job.task.encode(), b"%d" % job.attempt
    same = there == environment
    environment[b"BDW_FED_TASK"], environment[b"BDW_FED_ATTEMPT"] = task, attempt
    if not same:
        adopt(environment)
        return
    os.environb[b"BDW_FED_TASK"] = task
    if there[b"BDW_FED_ATTEMPT"] != attempt:
        os.environb[b"BDW_FED_ATTEMPT"] = attempt
