"""What an engine must answer to be measured, and the clock that all of them are measured with.

An engine that runs inside the measuring process derives from `TimedEngine`: it is started, warmed up with one whole
repetition, then timed. One that measures itself (ours, which starts a federation) derives from `Engine` alone.
Every step adds one to the number that it is given. That costs nothing, and the result proves that the step ran as often
as asked and, in a chain, that each step had the former's output.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from engines.noise import Watch


class Case(StrEnum):
    """What is measured."""

    CHAIN = "chain"  # dependent steps on one unit
    FANOUT = "fanout"  # many units through one step


class Keeps(StrEnum):
    """What must not happen for the state of a run to be there afterwards."""

    NOTHING = "nothing"  # it is in memory
    PROCESS = "process crash"
    POWER = "power loss"


class WrongResultError(Exception):
    """An engine was quick because it did not do what it was asked."""


class UnavailableError(Exception):
    """The engine can't be measured here; the text says why, in one line for people."""


@dataclass(frozen=True)
class Measurement:
    """What one engine took for one case.

    size: steps or tasks of one repetition. samples_ms: milliseconds per step or task, one for each repetition.
    start_seconds: from nothing to ready, before the warm-up; None if the engine doesn't tell. others_cpu: the share of
    the machine that other programs used meanwhile, 0 to 1; None where it was too short to tell.
    """

    version: str
    keeps: Keeps
    steps_run_in: str
    size: int
    samples_ms: Sequence[float]
    start_seconds: float | None = None
    others_cpu: float | None = None
    remarks: Sequence[str] = field(default_factory=tuple)


class Engine(ABC):
    """Something that runs steps."""

    @abstractmethod
    def measure(self, case: Case, size: int, repetitions: int, state: Path) -> Measurement:
        """Warm up, then take `repetitions` samples of a case of `size` steps or units.

        `state` is an empty directory on a real disk, removed afterwards. Raises `UnavailableError` to be skipped.
        """


class TimedEngine(Engine):
    """An engine driven from this process."""

    distribution: ClassVar[str]  # the package whose version is reported; empty for what has none
    keeps: ClassVar[Keeps]
    steps_run_in: ClassVar[str]

    @abstractmethod
    def start(self, state: Path) -> None:
        """Become ready to run steps: all worker processes have started."""

    @abstractmethod
    def stop(self) -> None:
        """End every process and thread that `start` began; called also when `start` failed half-way."""

    @abstractmethod
    def chain(self, steps: int) -> int:
        """Give 0 to the first step, each output to the next; returns the last output."""

    @abstractmethod
    def fanout(self, units: int) -> int:
        """Run one step on each of the numbers below `units`; returns the sum of the outputs."""

    def measure(self, case: Case, size: int, repetitions: int, state: Path) -> Measurement:
        """Start, warm up, time every repetition, stop."""
        began = time.perf_counter()
        try:
            self.start(state)
            ready = time.perf_counter()
            watch = Watch.of_parent()
            self._repetition(case, size)
            samples = [self._repetition(case, size) for _ in range(repetitions)]
            others = watch.others()
        finally:
            self.stop()
        return Measurement(
            version=version(self.distribution) if self.distribution else "",
            keeps=self.keeps,
            steps_run_in=self.steps_run_in,
            size=size,
            samples_ms=samples,
            start_seconds=ready - began,
            others_cpu=others,
        )

    def _repetition(self, case: Case, size: int) -> float:
        run, expected = (self.chain, size) if case is Case.CHAIN else (self.fanout, size * (size + 1) // 2)
        began = time.perf_counter()
        result = run(size)
        took = time.perf_counter() - began
        if result != expected:
            raise WrongResultError(f"{case} of {size} gave {result}, expected {expected}")
        return took * 1000 / size
