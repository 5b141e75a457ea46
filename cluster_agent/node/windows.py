"""Windows of splits: how many bytes of its parts each may have in the store at once, where its run has a quota.

    order, or a word of the coordinator ─▶ most ─▶ a part enters, or waits ◀─ parts are read and freed

Such a word may come before the split has begun, which waits for its turn on the node: it counts from its beginning.
The store says when something was freed; what of the split's parts is left then is looked up. A split with nothing in
the store may always enter one part, so that it gets on whatever it was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node.messages import TaskKey


class Windows:
    """Those of all splits that are under way on the node."""

    def __init__(self) -> None:
        self._open: dict[TaskKey, Window] = {}
        self._said: dict[TaskKey, int] = {}  # of splits that have not begun yet

    @contextmanager
    def opened(self, key: TaskKey, most: int, store: DiskStore) -> Iterator[Window]:
        """The window of a split, as long as it is under way."""
        window = self._open[key] = Window(self._said.pop(key, most), store)
        store.space.listeners.append(window.look)
        try:
            yield window
        finally:
            store.space.listeners.remove(window.look)
            del self._open[key]

    def told(self, key: TaskKey, most: int) -> None:
        """The coordinator has another word on a split that the node has."""
        window = self._open.get(key)
        if window is None:
            self._said[key] = most
            return
        window.most = most
        window.look()

    def forget(self, keys: Iterable[TaskKey]) -> None:
        """The node has these tasks no more."""
        for key in keys:
            self._said.pop(key, None)


class Window:
    """The window of one split. `most`: 0 = any number of bytes."""

    def __init__(self, most: int, store: DiskStore) -> None:
        self.most = most
        self._store = store
        self._parts: dict[UnitKey, int] = {}
        self._freed = asyncio.Event()

    def takes(self, size: int) -> bool:
        """Whether a part of that size may enter the store now."""
        if not self.most or not self._parts or sum(self._parts.values()) + size <= self.most:
            return True
        self._parts = {key: size for key, size in self._parts.items() if self._store.holds(key)}
        return not self._parts or sum(self._parts.values()) + size <= self.most

    def entered(self, key: UnitKey, size: int) -> None:
        """A part is in the store."""
        self._parts[key] = size

    def look(self) -> None:
        """Something was freed, or was said: who waits looks again."""
        self._freed.set()

    async def wait_for(self, size: int) -> None:
        """Return when a part of that size may enter."""
        while not self.takes(size):
            self._freed.clear()
            await self._freed.wait()
