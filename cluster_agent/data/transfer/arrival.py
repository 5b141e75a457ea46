"""A content that is on its way to this node, what is told of it in the end, and what is answered to a wrong push."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError
from cluster_agent.data.transfer.connections import Source
from cluster_agent.data.transfer.partial import PartialFile


@dataclass(frozen=True)
class Arrived:
    """How a want ended: without `error` the unit is in the store. `bytes` crossed in `seconds`."""

    key: UnitKey
    bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    gone: bool = False


@dataclass(eq=False)
class Arrival:
    """One digest that is wanted: by whom, from where, and how far it is."""

    digest: bytes
    size: int
    wants: dict[UnitKey, str] = field(default_factory=dict)  # -> cluster that may push it; empty: pulled
    sources: list[Source] = field(default_factory=list)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    partial: PartialFile | None = None
    pull: asyncio.Task[None] | None = None
    push: asyncio.Task[object] | None = None
    queued: bool = False  # to be asked for among other small ones
    crossed: int = 0
    began: float = 0.0


class PushRefusedError(DataError):
    """What was pushed is not what is expected; `status` is HTTP's."""

    def __init__(self, status: int, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.offset = offset
