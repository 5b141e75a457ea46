"""Executes split tasks inside the daemon: a thread cuts, the event loop puts the parts into the store and tells them.

What the thread has made meanwhile is taken together: small parts go into the journal with one write, all are synced
with one wait where that is asked for, and told with one call. The thread is at most `_AHEAD` lists of parts ahead of
the store, so that a large input does not fill the disk twice. And it waits in the middle while less of the disk is free
than the order says, or its window is full of parts that are in the store: what reads the parts makes room for more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath

from cluster_agent.data.base import UnitKey
from cluster_agent.data.errors import DataError, WrongContentError
from cluster_agent.data.split import Part, SplitSpec, make_parts
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import TaskDirectory
from cluster_agent.node.messages import TaskKey
from cluster_agent.node.windows import Window
from cluster_agent.node.works import Assignment
from cluster_agent.orders.messages import Output, UnitInfo
from wire.digests import unit_ids
from workflow.formats import HEADED, TEXTUAL, plain_name, split_format

PORT = "out"
_AHEAD = 16
_LOOK_SECONDS = 0.5  # a thread that waits for space notices that it is stopped
_PART_BYTES = 8 << 20  # of a part whose size nobody has told


async def split(
    assignment: Assignment,
    directory: TaskDirectory,
    store: DiskStore,
    executor: Executor,
    tell: Callable[[list[Output]], None],
    window: Window,
) -> list[Output]:
    """All units that the task makes; they are told as soon as they are in the store. DataError, OSError, ValueError."""
    key, work, order = assignment
    port = work.outputs[0].name if work.outputs else PORT
    made: list[Output] = []
    for unit in (unit for units in order.inputs for unit in units):
        source = UnitKey(key.namespace, key.run, unit.id)
        place = directory.temporary / unit.id.hex()
        store.link(source, place, directory.held)
        enter = _Entering(key, port, len(made), unit.name, store, window)
        try:
            spec = spec_of(assignment, unit)
            gate = _Gate(store, order.leave, window)
            cutting = _Cutting(place, spec, _folder(directory, spec, unit.size), store, gate, executor)
            try:
                async for parts in cutting.lists():
                    while parts:
                        outputs = [await enter.part(part) for part in gate.let_in(parts)]
                        await store.durable()
                        made += outputs
                        if outputs:
                            tell(outputs)
                        if parts:  # those that were told are read, and freed, meanwhile
                            await gate.wait_for(parts[0])
            finally:
                await cutting.end()
        except WrongContentError as error:
            await still_sound(store, source, unit)
            raise WrongContentError(f"{unit.name or unit.id.hex()}: {error}") from error
        store.find(source)  # or it was written to while it was cut
    return made


def _folder(directory: TaskDirectory, spec: SplitSpec, size: int) -> Callable[[], Path]:
    """Where the next part goes. Asked by the thread that cuts."""
    writing = directory.writing
    if writing is None:
        return lambda: directory.temporary
    part = spec.size or (-(-size // spec.count) if spec.count else _PART_BYTES)
    return lambda: writing.directory if writing.takes(part) else directory.temporary


def spec_of(assignment: Assignment, unit: UnitInfo) -> SplitSpec:
    """How a unit is cut, by what the workflow says and the unit is called. WrongContentError if it can't be so."""
    _, work, order = assignment
    told = work.execution.split.split
    form = told.format or split_format(work.inputs[0].format, unit.name)
    wrong = ""
    if told.header and form not in HEADED:
        wrong = "has no line that is a header; leave out header"
    elif told.lines and form not in TEXTUAL:
        wrong = "has no lines; write records, size or count in their place"
    elif told.records and form == "bytes":
        wrong = "has no records; write size or count in their place"
    if wrong:
        raise WrongContentError(f"it is split as {form}, which {wrong}, or say its format")
    count = order.parts or 1 if told.per_slot else told.count
    return SplitSpec(told.size, told.lines, told.records, count, told.members, told.header, form)


async def still_sound(store: DiskStore, key: UnitKey, unit: UnitInfo) -> None:
    """DataError if what was read is not what was stored: then it is the disk that is wrong, and not the content."""
    if not await store.verify(key, unit.digest):
        raise DataError(f"unit {unit.id.hex()} has other bytes in the store than it should have")


class _Gate:
    """What a part waits for before it enters the store: its disk, of which so much is left free, and its window."""

    def __init__(self, store: DiskStore, leave: int, window: Window) -> None:
        self._space = store.space
        self._leave = leave
        self._window = window

    def is_wide(self) -> bool:
        """Nothing that a thread may ask speaks against another part."""
        return not self._window.most and (not self._leave or self._space.free() >= self._leave)

    def is_open(self, size: int) -> bool:
        """Whether a part of that size may enter."""
        return (not self._leave or self._space.free() >= self._leave) and self._window.takes(size)

    def let_in(self, parts: list[Part]) -> Iterator[Part]:
        """Take those from the front that may enter, one after the other."""
        while parts and self.is_open(parts[0].size):
            yield parts.pop(0)

    async def wait_for(self, part: Part) -> None:
        """Return when the part may enter."""
        while not self.is_open(part.size):
            await self._space.wait_for(self._leave)
            await self._window.wait_for(part.size)


class _Cutting:
    """A file that a thread cuts. Iterate `lists`, then `end` it in any case."""

    def __init__(
        self,
        source: Path,
        spec: SplitSpec,
        folder: Callable[[], Path],
        store: DiskStore,
        gate: _Gate,
        executor: Executor,
    ) -> None:
        self._source = source
        self._spec = spec
        self._folder = folder
        self._store = store
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._room = threading.Semaphore(_AHEAD)
        self._made: asyncio.Queue[list[Part] | None] = asyncio.Queue()
        self._thread = self._loop.run_in_executor(executor, self._cut)

    async def lists(self) -> AsyncIterator[list[Part]]:
        """The parts, in order; each time all that are there. What the thread raised."""
        ended = False
        while not ended:
            parts: list[Part] = []
            more = await self._made.get()
            while True:
                if more is None:
                    ended = True
                    break
                parts += more
                self._room.release()
                if self._made.empty():
                    break
                more = self._made.get_nowait()
            if parts:
                yield parts
        await self._thread

    async def end(self) -> None:
        """Return when the thread has ended."""
        self._stopped.set()
        self._room.release()
        await asyncio.wait([self._thread])
        self._thread.exception()  # was raised by `lists`, or is of no interest any more

    def _cut(self) -> None:
        try:
            for parts in make_parts(self._source, self._spec, self._folder, self._stopped.is_set, self._store.small):
                self._room.acquire()
                if self._stopped.is_set():
                    return
                last = parts[-1]
                self._loop.call_soon_threadsafe(self._made.put_nowait, parts)
                self._wait(last)
        finally:
            self._loop.call_soon_threadsafe(self._made.put_nowait, None)

    def _wait(self, part: Part) -> None:
        """Go on when another such part might enter."""
        if self._gate.is_wide():
            return
        waiting = asyncio.run_coroutine_threadsafe(self._gate.wait_for(part), self._loop)
        while not self._stopped.is_set():
            try:
                waiting.result(_LOOK_SECONDS)
                return
            except TimeoutError:
                continue
        waiting.cancel()


class _Entering:
    """Makes units of the parts of one input."""

    def __init__(self, key: TaskKey, port: str, first: int, name: str, store: DiskStore, window: Window) -> None:
        path = PurePosixPath(plain_name(name) or "part")
        self._key = key
        self._port = port
        self._first = first
        self._stem, self._suffix = path.stem, path.suffix
        self._store = store
        self._window = window
        self._id = unit_ids(key.task, port)

    async def part(self, part: Part) -> Output:
        """The unit that the part is from now on: flights.csv.gz -> flights-00003.csv."""
        index = self._first + part.index
        unit = self._id(index)
        key = UnitKey(self._key.namespace, self._key.run, unit)
        if part.data is not None:
            self._store.put(key, part.data, part.digest)
        else:
            assert part.path is not None
            await self._store.commit(part.path, key, part.digest)
        self._window.entered(key, part.size)
        name = part.name or f"{self._stem}-{index:05}{self._suffix}"
        return Output(self._port, index, UnitInfo(unit, part.digest, part.size, name=name))
