"""Results that are being looked for: by tasks of ours, in what others know; and by others, in what we know."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster_agent.coordinator.cache.records import Made
from cluster_agent.coordinator.messages import Place
from cluster_agent.orders.messages import Output


@dataclass(slots=True)
class Sought:
    """A task that waits until it is known whether it must be executed. `asked`: the clusters that have not answered."""

    key: bytes  # in a cache; empty: it is not looked for there
    due: float  # then it waits no more
    contents: bytes = b""  # that it reads, where others may know it from before the run began again
    outputs: tuple[Output, ...] | None = None  # None: nobody knows them so far
    places: dict[bytes, Place] = field(default_factory=dict)  # of outputs: where peers have them
    executed: float = 0.0
    node: str = ""  # that looks for the contents, or gets them
    fetches: bool = False  # its outputs are on their way from peers
    asked: set[str] = field(default_factory=set)
    lacking: set[bytes] = field(default_factory=set)  # units on their way


@dataclass(slots=True)
class Listing:
    """A long list of what a task has made: how many of it each cluster was told."""

    made: Made
    told: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Serving:
    """A result in our cache that other clusters have asked for, and whose contents a node looks for."""

    clusters: list[str]
    key: bytes
    node: str
    outputs: tuple[Output, ...]
    executed: float
