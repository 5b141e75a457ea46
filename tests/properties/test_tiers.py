"""Whatever moves between memory, disk and object storage, whatever fails meanwhile: each unit has its bytes, once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.errors import UnitMissingError
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.errors import MissingError, SharedStoreError
from cluster_agent.data.store import DiskStore
from cluster_agent.data.tiers.away import AwayPlace
from cluster_agent.data.tiers.memory import MemoryPlace
from cluster_agent.data.tiers.moving import Places
from cluster_agent.data.tiers.shelf import Shelf
from tests.settings import examples

_BUDGET = 4000
_CAPACITY = 12_000
_SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Bucket(SharedStore):
    """Objects in a dict; refuses what it is asked while `away`."""

    place = "s3://test/bucket"
    most = 1 << 40

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False
        self.meanwhile: Callable[[], None] | None = None  # happens once, while something is asked

    async def put(self, name: str, source: bytes | Path) -> None:
        data = source if isinstance(source, bytes) else source.read_bytes()
        await self._answer()
        self.objects[name] = data

    async def get(self, name: str, target: Path) -> None:
        target.write_bytes(await self.read(name))

    async def read(self, name: str) -> bytes:
        await self._answer()
        if name not in self.objects:
            raise MissingError(name)
        return self.objects[name]

    async def delete(self, names: Collection[str]) -> None:
        await self._answer()
        for name in names:
            self.objects.pop(name, None)

    async def names(self, prefix: str) -> AsyncIterator[str]:
        await self._answer()
        for name in [name for name in self.objects if name.startswith(prefix)]:
            yield name

    async def close(self) -> None: ...

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if self.away:
            raise SharedStoreError("it is away")


class Outputs:
    """Objects of outputs, which are not the node's to delete."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def name(self, key: UnitKey) -> str:
        return f"units/{key.run}/{key.unit.hex()}"

    async def put(self, keys: Sequence[UnitKey], content: Content, source: str = "") -> bool:
        for key in keys:
            if source:
                await self.bucket.copy(source, self.name(key))
            else:
                await self.bucket.put(self.name(key), content.file)
        return True

    def copy(self, run: tuple[str, str], units: Collection[bytes]) -> None: ...

    def there(self, run: tuple[str, str], units: Sequence[bytes]) -> None: ...


class Tiers(RuleBasedStateMachine):
    """A store with a little memory, a little disk and a bucket; `known` is what it must have.

    `lasting`: outputs of ended runs lie in the bucket for others too, and whoever counts them deletes what is freed.
    """

    keys = Bundle("keys")

    @initialize(lasting=st.booleans())
    def begin(self, lasting: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.place = Path(tempfile.mkdtemp())
        self.memory = Path(tempfile.mkdtemp(dir=_SHM))
        self.bucket = Bucket()
        self.outputs = Outputs(self.bucket) if lasting else None
        self.known: dict[UnitKey, bytes] = {}
        self.tasks: list[tuple[Path, list[Path], bytes]] = []
        self.number = 0
        self.store = self.opened()

    def opened(self) -> DiskStore:
        async def make() -> DiskStore:
            places = Places(MemoryPlace(self.memory, _BUDGET), AwayPlace(self.bucket, "cold/edge1/n1/"))
            store = DiskStore(self.place / "store", capacity=_CAPACITY, small=16, places=places)
            assert store.away is not None
            store.away.kept = self.outputs
            return store

        return self.do(make())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    # ------------------------------------------------------------------------------------------------- bytes in

    @rule(target=keys, run=st.sampled_from("aab"), seed=st.integers(0, 3), size=st.sampled_from([10, 100, 900, 900]))
    def a_task_makes(self, run: str, seed: int, size: int) -> UnitKey:
        data = bytes([seed + 100 * (run == "b" and seed > 0)]) * size
        key = UnitKey("default", f"run-{run}", self.next().to_bytes(16, "big"))
        assert self.store.memory is not None
        reserved = self.store.memory.reserve(size)
        file = (reserved.directory if reserved is not None else self.store.partial) / f".{self.next()}"
        file.write_bytes(data)
        self.do(self.store.commit(file, key))
        if reserved is not None:
            self.store.memory.release(reserved)
        self.known[key] = data
        return key

    @rule(target=keys, like=keys, run=st.sampled_from("ab"))
    def a_unit_gets_another_name(self, like: UnitKey, run: str) -> UnitKey:
        key = UnitKey("default", f"run-{run}", self.next().to_bytes(16, "big"))
        if like in self.known and not self.bucket.away:
            self.do(self.store.bring([like]))
            if self.store.name(key, self.store.find(like).digest):
                self.known[key] = self.known[like]
            else:
                assert self.store.find(like).path is None, "of small contents with the same bytes the newest is known"
        return key

    # ---------------------------------------------------------------------------------------------------- moving

    @rule()
    def what_is_too_much_moves_on(self) -> None:
        self.do(self.settle())

    @rule(free=st.none() | keys)
    def memory_is_wanted_for_something_else(self, free: UnitKey | None) -> None:
        """All of it goes to the disk; a unit may be freed while its bytes are being copied."""

        async def spill() -> None:
            spilling = self.store._tiers._spilling
            assert spilling is not None
            going = asyncio.create_task(spilling.all())
            await asyncio.sleep(0)
            if free is not None:
                await self.store.free([free])
            await going

        self.do(spill())
        if free is not None:
            self.known.pop(free, None)

    @rule(run=st.sampled_from("ab"), lost=st.sets(keys, max_size=2), free=st.none() | keys)
    def a_run_ends_and_its_outputs_go_to_the_bucket(self, run: str, lost: set[UnitKey], free: UnitKey | None) -> None:
        """All but `lost` are outputs; one may be freed while it is being sent."""
        name = f"run-{run}"
        kept = [key.unit for key in self.known if key.run == name and key not in lost]
        if free in self.known:

            def meanwhile() -> None:
                self.store._index.forget(free)

            self.bucket.meanwhile = meanwhile
        self.do(self.store.end_run("default", name, kept, kept))
        self.do(self.settle())
        if free is not None and self.bucket.meanwhile is None:
            self.known.pop(free, None)
        self.bucket.meanwhile = None
        self.known = {key: data for key, data in self.known.items() if key.run != name or key.unit in kept}
        assert self.store.memory is not None
        self.delete_unneeded()
        left = [self.store._index.find(key) for key in self.known if key.run == name]
        away, cooling = self.store.away, self.store._tiers._cooling
        assert away is not None
        assert cooling is not None
        if self.outputs is not None and cooling._timer is None:
            assert not any(content.away and away.is_own(content) for content in left), "others find all that is there"
        assert not self.store.memory.shelf.contents.keys() & set(left), "what a run has left is in memory no more"

    @rule(key=keys)
    def a_unit_is_wanted_back(self, key: UnitKey) -> None:
        if key in self.known:
            with contextlib.suppress(SharedStoreError):
                self.do(self.store.bring([key]))

    @rule(key=keys)
    def a_unit_is_freed(self, key: UnitKey) -> None:
        self.do(self.store.free([key]))
        self.known.pop(key, None)
        self.delete_unneeded()

    # ---------------------------------------------------------------------------------------------------- tasks

    @rule(key=keys)
    def a_task_begins_to_read(self, key: UnitKey) -> None:
        if key not in self.known:
            return
        held: list[Path] = []
        target = self.place / f"task-{self.next()}"
        with contextlib.suppress(SharedStoreError):
            self.do(self.store.bring([key]))
            self.store.link(key, target, held)
            self.tasks.append((target, held, self.known[key]))

    @precondition(lambda self: self.tasks)
    @rule()
    def a_task_has_read_to_the_end(self) -> None:
        target, held, data = self.tasks.pop()
        assert target.read_bytes() == data, "what a task reads stays, wherever it moves, and though it is freed"
        for path in (target, *held):
            path.unlink()

    # --------------------------------------------------------------------------------------------------- mishaps

    @rule(away=st.booleans())
    def the_bucket_is_away_or_back(self, away: bool) -> None:
        self.bucket.away = away

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.abandon()
        self.store = self.opened()

    @rule()
    def the_daemon_is_stopped_and_started(self) -> None:
        self.do(self.store.close())
        self.end_tasks()
        self.store = self.opened()

    @rule()
    def the_machine_loses_power(self) -> None:
        """What was in memory only is lost, and known to be."""
        lost = [key for key in self.known if self.store._index.find(key).shelf not in (None, self.store._tiers.disk)]
        self.abandon()
        shutil.rmtree(self.memory)
        self.memory.mkdir()
        self.store = self.opened()
        for key in lost:
            assert not self.store.holds(key)
            del self.known[key]

    def abandon(self) -> None:
        """As if the process were killed: nothing of it goes on, and nothing is tidied up."""
        self.store.journal.flush()
        self.store.journal.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.do(asyncio.sleep(0))
        self.do(asyncio.sleep(0))
        self.store._executor.shutdown()
        self.end_tasks()

    def end_tasks(self) -> None:
        for target, _, _ in self.tasks:
            target.unlink()
        self.tasks.clear()

    # ------------------------------------------------------------------------------------------------ invariants

    async def settle(self) -> None:
        self.store._tiers.stir()
        await self.store._tiers.settled()

    def delete_unneeded(self) -> None:
        """Objects of outputs that were freed."""
        if self.outputs is not None:
            needed = {self.outputs.name(key) for key in self.known}
            for name in [name for name in self.bucket.objects if name.startswith("units/") and name not in needed]:
                del self.bucket.objects[name]

    def next(self) -> int:
        self.number += 1
        return self.number

    @invariant()
    def it_has_what_it_must_have_and_nothing_else(self) -> None:
        assert set(self.store.units()) == set(self.known)
        for key, data in self.known.items():
            content = self.store._index.find(key)
            if content.away:
                names = [content.away]
                if self.outputs is not None and content.away.startswith("units/"):
                    names += [self.outputs.name(each) for each in content.names or ()]
                assert data in [self.bucket.objects.get(name) for name in names]
            else:
                found = self.store.find(key)
                assert (found.data if found.path is None else found.path.read_bytes()) == data

    @invariant()
    def each_content_is_counted_once_where_it_lies(self) -> None:
        memory = self.store.memory
        assert memory is not None
        for shelf in (self.store._tiers.disk, memory.shelf):
            files = list((shelf.root / "content").glob("*/*"))
            assert shelf.used == sum(path.stat().st_size for path in files)
            assert {content.file for content in shelf.contents} == set(files)
            assert _names(shelf) == {key for content in shelf.contents for key in content.names or ()}
        assert memory.shelf.used <= _BUDGET, "nothing is put into memory for which there is no room"

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.everything_ends()
        finally:
            self.loop.close()
            for place in (self.place, self.memory):
                shutil.rmtree(place, ignore_errors=True)

    def everything_ends(self) -> None:
        self.bucket.away = False
        self.do(self.store.end_run("default", "run-a", ()))
        self.do(self.store.end_run("default", "run-b", ()))
        self.do(self.settle())
        while pending := list(asyncio.all_tasks(self.loop)):
            self.do(asyncio.wait(pending))
        self.known.clear()
        self.delete_unneeded()
        assert not self.bucket.objects, "what crashes leave in the bucket goes when the runs end"
        self.do(self.store.close())
        self.end_tasks()
        assert not self.memory.exists(), "a daemon that is stopped leaves nothing in memory"


def _names(shelf: Shelf) -> set[UnitKey]:
    """The units whose names are hard links on a shelf."""
    found = (shelf.root / "units").glob("*/*/*")
    return {
        UnitKey(path.parent.parent.name, path.parent.name, bytes.fromhex(path.name))
        for path in found
        if path.suffix != ".ref"
    }


def test_a_content_that_its_bucket_has_lost_is_missing(tmp_path: Path) -> None:
    """It is told as missing, to be made again, and not as something that may come later."""

    async def play() -> None:
        bucket = Bucket()
        store = DiskStore(tmp_path / "store", small=-1, places=Places(away=AwayPlace(bucket, "cold/edge1/n1/")))
        key = UnitKey("default", "run1", bytes(16))
        file = tmp_path / "store" / "partial" / ".made"
        file.write_bytes(b"bytes")
        content = await store.commit(file, key)
        await store.end_run("default", "run1", [key.unit], [key.unit])
        await store._tiers.settled()
        assert content.away and not store.stored_bytes
        bucket.away = True
        assert await store.verify(key, content.digest), "as long as the bucket does not answer it is not lost"
        bucket.away = False
        bucket.objects.clear()
        try:
            await store.bring([key])
        except UnitMissingError:
            pass
        else:
            raise AssertionError("nobody was told")
        assert not store.holds(key)
        await store.close()

    asyncio.run(play())


TestTiers = Tiers.TestCase
TestTiers.settings = settings(max_examples=examples(50), stateful_step_count=40)
