"""The tiers of one node, put together: which there are, in which a file lies, and what moves contents between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cluster_agent.data.base import Content
from cluster_agent.data.inventory import Runs
from cluster_agent.data.shared.errors import SharedStoreError
from cluster_agent.data.tiers.away import AwayPlace, AwayTier
from cluster_agent.data.tiers.cooling import Cooling
from cluster_agent.data.tiers.memory import MemoryPlace, MemoryTier, leave
from cluster_agent.data.tiers.shelf import Shelf
from cluster_agent.data.tiers.spilling import Spilling


class Places(NamedTuple):
    """Where contents may lie beside the disk."""

    memory: MemoryPlace | None = None
    away: AwayPlace | None = None


class Moving:
    """The disk's shelf and the tiers above and below it. `close` it at the end."""

    def __init__(
        self,
        disk: Shelf,
        places: Places,
        executor: ThreadPoolExecutor,
        *,
        free_bytes: Callable[[], int],
        check_space: Callable[[int], None],
        drop: Callable[[Content, str], None],
        moved: Callable[[], None],
    ) -> None:
        """`drop` forgets content that is damaged or lost; `moved` hears that some has moved; the others are about the
        disk."""
        self.disk = disk
        self.memory: MemoryTier | None = None
        self.away: AwayTier | None = None
        self._spilling: Spilling | None = None
        self._sending: dict[Content, None] = {}  # contents that go to object storage, by way of the disk
        self._cooling: Cooling | None = None

        async def in_thread(function: Callable[[Path], object], path: Path) -> object:
            return await asyncio.get_running_loop().run_in_executor(executor, function, path)

        thread: Callable[[Callable[[Path], object], Path], Awaitable[object]] = in_thread
        if places.memory is not None:
            shelf = Shelf(places.memory.root, executor, lambda *_: None)
            self.memory = MemoryTier(shelf, places.memory.budget, executor, auto=places.memory.auto)
            self._spilling = Spilling(self.memory, disk, thread, check_space, drop, self._send, moved)
        if places.away is not None:
            self.away = AwayTier(places.away, disk, thread, check_space, drop)
            self._cooling = Cooling(disk, self.away, free_bytes, moved)

    @property
    def shelves(self) -> list[Shelf]:
        """Where files lie, the disk first."""
        return [self.disk] if self.memory is None else [self.disk, self.memory.shelf]

    def shelf_of(self, file: Path) -> Shelf:
        """The shelf on whose file system a file is."""
        if self.memory is not None and file.is_relative_to(self.memory.shelf.root):
            return self.memory.shelf
        return self.disk

    def inventory(self, runs: Runs) -> Iterator[Content]:
        """What an earlier process left, entered into `runs`. Blocks."""
        for shelf in self.shelves:
            yield from shelf.inventory(runs)
        if self.away is not None:
            self.away.found({content for units in runs.values() for content in units.values() if content.away})
            for run in self.away.marked():
                if run not in runs:
                    self.away.sweep(*run)

    def stir(self) -> None:
        """Something was put into a tier: what is too much there moves on."""
        for moving in (self._spilling, self._cooling):
            if moving is not None:
                moving.stir()

    async def bring(self, contents: Iterable[Content]) -> None:
        """Have contents on the disk that are away. SharedStoreError: not now; UnitMissingError: never."""
        for content in contents:
            if self.away is None:
                raise SharedStoreError(f"{content.away} is in object storage, and this node was told of none")
            await self.away.bring(content)

    def forget(self, content: Content) -> None:
        """No unit names content that lies elsewhere."""
        if content.away and self.away is not None:
            self.away.forget(content)

    def end_run(
        self, namespace: str, run: str, left: Mapping[bytes, Content], shared: Collection[bytes], *, results: bool
    ) -> None:
        """What a run has left is cold, and in memory no longer; of that, `shared` goes to object storage. `results`: it
        is the run's outputs."""
        for content in left.values():
            content.cold, content.kept = True, results
        wanted = [left[unit] for unit in shared if unit in left and left[unit].path is not None]
        if self.away is not None:
            self._sending.update(dict.fromkeys(wanted))
            self.away.sweep(namespace, run)
            if results:
                self._keep((namespace, run), left, shared)
        if self._spilling is not None and self.memory is not None:
            # the bytes of an output may be those of a unit that was for the next step only
            self._spilling.ask([content for content in left.values() if content in self.memory.shelf.contents])
        for content in wanted:
            if content in self.disk.contents:
                self._send(content)

    def _keep(self, run: tuple[str, str], left: Mapping[bytes, Content], shared: Collection[bytes]) -> None:
        """What lies in object storage of a run's outputs shall lie there for all nodes; so shall copies of what is
        asked for, and can't leave this node: it is small, or the bytes of another run's units too."""
        assert self.away is not None
        if self.away.kept is None or self._cooling is None:
            return
        away = {unit: content for unit, content in left.items() if content.away}
        self._cooling.ask(content for content in away.values() if self.away.misplaced(content))
        there = [unit for unit, content in away.items() if not self.away.is_own(content)]
        if there:
            self.away.kept.there(run, there)
        stays = [unit for unit in shared if unit in left and unit not in away and not _goes(left[unit])]
        if stays:
            self.away.kept.copy(run, stays)

    def _send(self, content: Content) -> None:
        """A content is on the disk: it goes on to object storage if it was asked to."""
        if content in self._sending and self._cooling is not None:
            del self._sending[content]
            self._cooling.ask([content])

    async def settled(self) -> None:
        """Return when nothing is being moved down."""
        for moving in (self._spilling, self._cooling):
            if moving is not None:
                await moving.settled()

    async def close(self) -> None:
        """End all that moves; what is in memory goes to the disk, as far as there is room."""
        if self.away is not None and self._cooling is not None:
            await self._cooling.close()
            await self.away.close()
        if self._spilling is not None:
            await self._spilling.close()
            await self._spilling.all()
        for shelf in self.shelves:
            await shelf.close()
        if self.memory is not None:
            leave(self.memory.shelf.root)


def _goes(content: Content) -> bool:
    """Whether a content is sent to object storage where that is asked for: it is a file, and of one run."""
    return content.path is not None and len({key[:2] for key in content.names or ()}) == 1
