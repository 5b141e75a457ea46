"""What the log says of results that are known: from before the run began again, from others, or from the cache."""

from __future__ import annotations

import msgspec

from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.orders.messages import Output


class Made(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a task of another cluster has made, and what it read (see `hearsay`).

    `outputs`: all of them, or where there are more than these (`count`) those from `first` on.
    """

    contents: bytes
    outputs: tuple[Output, ...]
    first: int = 0
    count: int = 0


class Recalled(Record, frozen=True):
    """A task is done: its result is known from before the run began again. `routes` as in Committed."""

    run: RunKey
    task: bytes
    routes: tuple[tuple[int, int, str], ...] = ()


class Reused(Record, frozen=True):
    """A task is done: its result is known, and its contents are on that node. `routes` as in Committed.

    `key`: it was in a cache under that key, executed then (Unix time); empty: before the run began again.
    """

    run: RunKey
    task: bytes
    node: str
    outputs: tuple[Output, ...]
    routes: tuple[tuple[int, int, str], ...]
    key: bytes = b""
    executed: float = 0.0


class ResultHeard(Record, frozen=True):
    """Another cluster knows the result of a task from before the run began again."""

    run: RunKey
    task: bytes
    made: Made


class CacheFilled(Record, frozen=True):
    """What a task has just made, on that node, goes into the cache. `executed`: Unix time."""

    run: RunKey
    task: bytes
    key: bytes
    node: str
    executed: float


class CacheDropped(Record, frozen=True):
    """These results are in the cache no more."""

    keys: tuple[bytes, ...]


CacheRecord = Recalled | Reused | ResultHeard | CacheFilled | CacheDropped
