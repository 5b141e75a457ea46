"""What a case is asked for, and what it answers: series of times, each beside its floor and its target.

A series has one sample for each repetition after the warm-up, in milliseconds, divided by what it counts (a step, a
task); so chains of different lengths can be compared. Its floor was measured in the same run, on the same disk. Where a
sample is the time of so many bytes, it is also told how many of them go by in a second, and how many units.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from topology.storage import Storage

GIB = 1 << 30


class PerfError(Exception):
    """A case could not be measured, or the federation did not do what it was asked; the message says which."""


@dataclass(frozen=True)
class Target:
    """What is to be reached: at most so many ms, or so many times the floor, by this part (0 to 1) of the samples."""

    most: float
    of_floor: bool = False
    part: float = 0.5

    def __str__(self) -> str:
        whose = "" if self.part == 0.5 else f"P{self.part * 100:g} "
        return f"{whose}≤ {self.most:g} {'× the floor' if self.of_floor else 'ms'}"

    def reached(self, series: Series) -> bool:
        """Whether the series does."""
        unit = statistics.median(series.floor) if self.of_floor else 1.0
        value = series.median if self.part == 0.5 else series.percentile(self.part)
        return value <= self.most * unit


@dataclass(frozen=True)
class Series:
    """Samples of one figure, in ms. `what` says from when to when; `floor` is what its samples are held against.

    `of`: how many bytes each sample is the time of, `unit`: how many a unit of them has; 0 where that says nothing.
    """

    name: str
    what: str
    samples: Sequence[float]
    targets: Sequence[Target] = ()
    floor: Sequence[float] = ()
    floor_what: str = ""
    of: int = 0
    unit: int = 0

    @property
    def target(self) -> str:
        """What is to be reached, for people."""
        return ", ".join(map(str, self.targets))

    @property
    def reached(self) -> bool | None:
        """Whether that is reached; None if nothing is to be."""
        return all(target.reached(self) for target in self.targets) if self.targets else None

    @property
    def median(self) -> float:
        """The middle one of the samples."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """How many times the floor the median is; None without a floor."""
        return self.median / statistics.median(self.floor) if self.floor else None

    @property
    def megabytes(self) -> float | None:
        """How many MB (10**6 bytes) a second the median is; None if it is not of bytes."""
        return self.of / 1e6 / (self.median / 1000) if self.of else None

    @property
    def units(self) -> float | None:
        """How many units a second; None if it is not of units."""
        return self.of / self.unit / (self.median / 1000) if self.of and self.unit else None

    def percentile(self, part: float) -> float:
        """The smallest sample that `part` (0 to 1) of all samples don't exceed."""
        ranked = sorted(self.samples)
        return ranked[max(0, math.ceil(part * len(ranked)) - 1)]


@dataclass(frozen=True)
class Result:
    """What a case measured: the series that it is about, and further ones that explain it."""

    case: str
    size: int  # steps, units or submissions of one repetition
    durability: str  # process or power
    start_seconds: float  # `up` to ready, of the federation that was measured
    main: Series
    others: Sequence[Series] = field(default_factory=tuple)
    left_out: Sequence[str] = ()  # what could not be measured, and what it takes

    def to_values(self) -> dict[str, Any]:
        """As JSON: what benchmarks read (`case`, `size`, `samples_ms`, `durability`), and all the rest."""
        return {
            "case": self.case,
            "size": self.size,
            "samples_ms": _rounded(self.main.samples),
            "durability": self.durability,
            "start_seconds": round(self.start_seconds, 3),
            "what": self.main.what,
            "floor_ms": _rounded(self.main.floor),
            **_judged(self.main),
            "others": {
                series.name: {
                    "what": series.what,
                    "samples_ms": _rounded(series.samples),
                    "floor_ms": _rounded(series.floor),
                    **_judged(series),
                }
                for series in self.others
            },
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class Settings:
    """What was asked for. `size` counts what the case counts; of `storage` it is the places that nodes share."""

    size: int
    repetitions: int
    durability: str = "process"
    storage: Storage = field(default_factory=Storage)
    storage_credentials: Path | None = None  # the directory with what `storage` names

    @property
    def fewer(self) -> int:
        """Repetitions of what stands beside the figure that a case is about."""
        return (self.repetitions + 1) // 2


class Case(ABC):
    """One thing that is measured."""

    name: ClassVar[str]
    size: ClassVar[int]  # unless another is asked for
    repetitions: ClassVar[int] = 5
    counts: ClassVar[str]  # what `size` is a number of
    least: ClassVar[int] = 1
    most: ClassVar[int] = 1_000_000

    @abstractmethod
    def measure(self, settings: Settings) -> Result:
        """Measure the floor, start a federation, warm up, take the samples, stop it. Raises PerfError."""

    def checked(self, settings: Settings) -> Settings:
        """The settings, if the case can be measured with them. Raises PerfError."""
        if not self.least <= settings.size <= self.most:
            takes = f"--size takes {self.least} to {self.most}"
            raise PerfError(f"{self.name}: {settings.size} {self.counts} can't be measured; {takes}")
        if settings.repetitions < 1:
            raise PerfError(f"{self.name}: expected at least 1 repetition, see --repetitions")
        return settings


def _judged(series: Series) -> dict[str, Any]:
    """A series beside its floor and its target, and as rates where it has any."""
    values: dict[str, Any] = {"floor": series.floor_what, "target": series.target, "reached": series.reached}
    for name, value in (("ratio", series.ratio), ("mb_s", series.megabytes), ("units_s", series.units)):
        if value is not None:
            values[name] = float(f"{value:.4g}")
    return values


def _rounded(samples: Sequence[float]) -> list[float]:
    return [round(sample, 4) for sample in samples]
