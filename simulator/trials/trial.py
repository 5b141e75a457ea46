"""A trial: a scenario lived through, from its beginning until all has come to rest, and judged.

Scenario ─▶ World, driven ─▶ Verdict: what was violated, how the runs ended, what all of it came to
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.models import import_models
from control_plane.runs import forms
from simulator.trials.judging import judge
from simulator.trials.ledger import Ledger
from simulator.trials.loop import VirtualLoop, virtual
from simulator.trials.scenario import BY_QUOTA, Scenario, without_quotas
from simulator.trials.world import World

Note = Callable[[float, str, object], None]
PATIENCE_SECONDS = 400.0  # virtual, after the last fault: by then every run has ended
STUCK_SECONDS = 150.0  # until a run that can't go on within a quota has failed; others may wait for its slots
REST_SECONDS = 120.0  # after the last end: by then nothing is owed any more


@dataclass(frozen=True)
class Verdict:
    """How a trial came out. `digest` is the same whenever the same scenario is lived through.

    `outputs`: of each run (output, unit); `contents`: (output, each unit of a source or a split that is in it).
    """

    violations: tuple[str, ...]
    ends: dict[str, str]
    outputs: dict[str, tuple[tuple[str, bytes], ...]]
    contents: dict[str, tuple[tuple[str, bytes], ...]]
    virtual_seconds: float
    commits: int
    events: int
    digest: str
    messages: dict[str, str]


def tried(scenario: Scenario, *, note: Note | None = None) -> Verdict:
    """Live through a scenario; and through the same without faults, whose outputs must be the same."""
    verdict = live(scenario, note=note)
    wrong = []
    for submission in scenario.submissions:
        allowed = scenario.expected.get(submission.run, ("succeeded",))
        end = verdict.ends.get(submission.run, "not there")
        why = verdict.messages.get(submission.run, "")
        if end == "failed" and BY_QUOTA in allowed and "quota" in why:
            continue
        if not verdict.violations and end not in allowed:
            wrong.append(f"{submission.run} is {end}, expected was {' or '.join(allowed)}: {why}")
    if not verdict.violations and "succeeded" in verdict.ends.values():
        undisturbed = live(_undisturbed(scenario))
        compared = [(verdict.contents, undisturbed.contents)]
        if not scenario.gathers_apart:
            compared.append((verdict.outputs, undisturbed.outputs))
        for here, there in compared:
            for run, end in verdict.ends.items():
                if end == "succeeded" and here[run] != there[run]:
                    more, less = len(set(here[run]) - set(there[run])), len(set(there[run]) - set(here[run]))
                    wrong.append(
                        f"{run} has other outputs than without faults: {more} more, {less} less,"
                        f" {len(here[run])} instead of {len(there[run])}"
                    )
    return replace(verdict, violations=(*verdict.violations, *wrong))


def _undisturbed(scenario: Scenario) -> Scenario:
    """The same with nothing going wrong, nobody changing his mind, quick tasks, and room for all that they make."""
    submissions = tuple(replace(each, then=()) for each in scenario.submissions)
    quick = dict.fromkeys(scenario.seconds, 0.01)
    objects = without_quotas(scenario.objects) if scenario.is_bounded else scenario.objects
    calm = replace(scenario, objects=objects, submissions=submissions, faults=(), seconds=quick)
    return replace(calm, durability="process", hubs=1)


def live(scenario: Scenario, *, note: Note | None = None) -> Verdict:
    """Live through a scenario. `note` hears everything that happens: time, where, what."""
    import_models()  # else the first hub of this process would wait for it, and no other
    with virtual(scenario.seed) as loop, _quiet(loop, note):
        ledger = Ledger(loop.time)
        if note is not None:
            hears = note
            ledger.note = lambda where, what: hears(loop.time(), where, what)
        world = World(loop, scenario, ledger)
        try:
            loop.run_until_complete(_go(world))
        finally:
            world.close()
            loop.run_until_complete(_ended())
            world.clear()
        for message, error in loop.errors:
            ledger.violated(f"an error that nobody has taken: {message} {error!r}")
        runs = world.runs()
        ends = {name: m.RunState.Name(run.state).removeprefix("RUN_STATE_").lower() for name, run in runs.items()}
        ends |= dict.fromkeys(world.users.refused.keys() - runs.keys(), "refused")
        outputs = {name: tuple(sorted((each.name, each.unit.id) for each in run.outputs)) for name, run in runs.items()}
        contents = {
            name: tuple(sorted((each.name, unit) for each in run.outputs for unit in world.within(each.unit.id)))
            for name, run in runs.items()
        }
        digest = hashlib.blake2b(digest_size=16)
        for part in (ends, outputs, ledger.commits, world.etcd.revision, round(loop.time(), 6), ledger.violations):
            digest.update(repr(part).encode())
        told = {name: run.message for name, run in runs.items()}
        return Verdict(
            tuple(ledger.violations),
            ends,
            outputs,
            contents,
            loop.time(),
            ledger.commits,
            loop.events,
            digest.hexdigest(),
            told,
        )


async def _go(world: World) -> None:
    """Until all has come to rest, or something is wrong."""
    ledger, loop = world.ledger, world.loop
    patience = PATIENCE_SECONDS
    if world.scenario.is_bounded:
        patience += STUCK_SECONDS * len(world.scenario.submissions)
    deadline = max(world.scenario.quiet_from, 10.0) + patience
    while not world.ended():
        if _over(world):
            return
        if loop.time() > deadline:
            going = [
                f"{name} is {m.RunState.Name(run.state)}"
                for name, run in world.runs().items()
                if run.state not in forms.ENDED
            ]
            told = ", ".join(going) or "they are not there"
            ledger.violated(f"after {patience:g} s without faults not all runs have ended: {told}")
            return
        await asyncio.sleep(0.5)
    deadline = max(loop.time(), world.scenario.quiet_from) + REST_SECONDS
    while problems := judge(world):
        if _over(world):
            return
        if loop.time() > deadline:
            for problem in problems:
                ledger.violated(f"{REST_SECONDS:g} s after all has ended: {problem}")
            return
        await asyncio.sleep(0.5)


async def _ended() -> None:
    """All tasks of the processes that were killed are over."""
    me = asyncio.current_task()
    while tasks := [task for task in asyncio.all_tasks() if task is not me]:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)


def _over(world: World) -> bool:
    for what in (*world.failed, *world.network.refused):
        world.ledger.violated(what)
    return bool(world.ledger.violations)


class _quiet:
    """What the parts log is a part of the story, and printed nowhere."""

    def __init__(self, loop: VirtualLoop, note: Callable[[float, str, object], None] | None) -> None:
        self._loop = loop
        self._note = note
        self._before = structlog.get_config()

    def __enter__(self) -> None:
        structlog.configure(processors=[self._take])

    def __exit__(self, *_: object) -> None:
        structlog.configure(**self._before)

    def _take(self, _logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if self._note is not None:
            self._note(self._loop.time(), method, dict(event))
        raise structlog.DropEvent
