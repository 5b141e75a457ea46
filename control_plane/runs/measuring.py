"""What ended runs teach the planner: how many bytes come out of a step for each that goes in, how long its tasks take.

The sums of each step version lie in the store. They are halved when they have grown large, so that old runs fade. A
hub that is killed between the end of a run and this note loses one observation, nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import structlog

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, object_names, writing
from control_plane.patience import persistently
from control_plane.runs.lines import name_of
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.keys import Key

_MANY_TASKS = 10_000
_WAITING = 1000  # runs
_AT_ONCE = 50  # runs, or sums
_COLLECTED_SECONDS = 0.2
_ASIDE = (m.PAIRING_SAME_CLUSTER, m.PAIRING_BROADCAST, m.PAIRING_CROSS)

_log = structlog.get_logger(__name__)


def observed(steps: Iterable[m.Step], run: m.Run) -> dict[str, s.StepMeasured]:
    """What a run that has succeeded shows of each definition in it. Bytes in count what drives a step, not lookups."""
    told: dict[str, list[m.StepProgress]] = {}
    for _, fragment in sorted(run.fragments.items()):
        for progress in fragment.steps:
            told.setdefault(progress.step, []).append(progress)
    bytes_out = {step: sum(each.bytes_out for each in parts) for step, parts in told.items()}
    found: dict[str, s.StepMeasured] = {}
    for step in steps:
        tasks = sum(each.done - each.cached for each in told.get(step.name, ()))
        if not step.definition or not tasks:
            continue
        drives = {port.from_step for port in step.inputs if port.pairing not in _ASIDE}
        one = found.setdefault(step.definition, s.StepMeasured())
        one.bytes_in += sum(bytes_out.get(producer, 0) for producer in drives)
        one.bytes_out += bytes_out.get(step.name, 0)
        one.tasks += tasks
        one.busy_seconds += sum(each.busy_seconds for each in told[step.name])
    return found


def added(before: s.StepMeasured | None, more: s.StepMeasured) -> s.StepMeasured:
    """The sums with one run more."""
    keep = 0.0 if before is None else 0.5 if before.tasks >= _MANY_TASKS else 1.0
    old = before or s.StepMeasured()
    return s.StepMeasured(
        bytes_in=old.bytes_in * keep + more.bytes_in,
        bytes_out=old.bytes_out * keep + more.bytes_out,
        tasks=old.tasks * keep + more.tasks,
        busy_seconds=old.busy_seconds * keep + more.busy_seconds,
    )


class Measurements:
    """Notes what ended runs have shown. `keep` is run by the hub as long as it lives."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._ended: deque[m.Run] = deque(maxlen=_WAITING)
        self._something = asyncio.Event()

    def ended(self, run: m.Run) -> None:
        """A run has ended just now."""
        if run.state == m.RUN_STATE_SUCCEEDED and run.fragments:
            self._ended.append(run)
            self._something.set()

    async def keep(self) -> None:
        """Note what has ended meanwhile, at most some times a second: runs that end come after each other."""
        while True:
            await self._something.wait()
            await asyncio.sleep(_COLLECTED_SECONDS)
            self._something.clear()
            while self._ended:
                runs = [self._ended.popleft() for _ in range(min(_AT_ONCE, len(self._ended)))]
                try:
                    await self._note(runs)
                except (EtcdError, StoreError) as error:
                    _log.info("what runs have shown is not noted", runs=len(runs), error=str(error))

    async def _note(self, runs: Sequence[m.Run]) -> None:
        """Add what these runs have shown to the sums, in one write."""
        fragments, measured = self._kinds.fragments, self._kinds.measured
        keys = [fragments.key(min(run.fragments), run.namespace, name_of(run)) for run in runs]
        look = await self._kinds.look(keys)
        shown: dict[Key, list[s.StepMeasured]] = {}
        for run, key in zip(runs, keys, strict=True):
            stored = fragments.seen(look, key)
            if stored is None:
                continue
            for definition, more in observed(stored.value.fragment.steps, run).items():
                shown.setdefault(measured.key(run.namespace, *object_names("Step", definition)), []).append(more)

        async def attempt(keys: Sequence[Key]) -> None:
            before = await self._kinds.look(keys)
            operations = []
            for key in keys:
                stored = measured.seen(before, key)
                fresh = reduce(added, shown[key], stored.value if stored else None)
                assert fresh is not None
                operations.append(writing(measured, key, stored, fresh))
            await self._kinds.commit(operations)

        for names in _groups(list(shown), _AT_ONCE):
            await persistently(lambda names=names: attempt(names))  # type: ignore[misc]


def _groups(keys: Sequence[Key], most: int) -> Iterator[Sequence[Key]]:
    for at in range(0, len(keys), most):
        yield keys[at : at + most]
