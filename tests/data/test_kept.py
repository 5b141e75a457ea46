"""What came of a transfer that broke off is kept for as long as somebody may ask for the rest, and no longer."""

from __future__ import annotations

from pathlib import Path

from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.kept import Kept
from cluster_agent.data.transfer.partial import CHUNK_BYTES, PartialFile
from tests.data.network import Network, Peer, key, pattern
from wire.digests import bytes_digest

NOBODY = "127.0.0.1:1"
OTHER = UnitKey("default", "run2", key().unit)


async def broken_off(here: Peer, there: Peer, *keys: UnitKey) -> tuple[bytes, int]:
    """Digest and size of a unit of which half came to `here`, wanted under these keys, before its sender vanished."""
    content = pattern(2 * CHUNK_BYTES)
    digest = await there.put(content)
    begun(here.store, content, digest)
    for each in keys:
        here.arrivals.fetch(each, digest, len(content), [there.source(address=NOBODY)])
    told = await here.arrived(len(keys))
    assert all("gave up" in arrived.error for arrived in told)
    assert files(here), "a part of it is kept"
    here.told.clear()
    return digest, len(content)


def begun(store: DiskStore, content: bytes, digest: bytes) -> None:
    """A transfer that has brought a chunk."""
    partial = PartialFile(store.partial, digest, len(content))
    partial.write(0, content[:CHUNK_BYTES])
    partial.close()


def files(peer: Peer) -> list[Path]:
    return list(peer.store.partial.iterdir())


async def test_what_came_before_the_sender_vanished_does_not_come_again(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest, size = await broken_off(here, there, key())
    here.arrivals.fetch(key(), digest, size, [there.source()])
    (arrived,) = await here.arrived()
    assert (arrived.error, arrived.bytes) == ("", size - CHUNK_BYTES)
    assert files(here) == []


async def test_nothing_is_left_of_a_unit_that_is_not_wanted_any_more(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await broken_off(here, there, key())
    here.arrivals.forget(key())
    assert files(here) == []


async def test_it_is_kept_for_as_long_as_one_of_the_runs_that_want_it_goes_on(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest, size = await broken_off(here, there, key(), OTHER)
    here.arrivals.forget_run(key().namespace, key().run)
    assert files(here)
    here.arrivals.fetch(OTHER, digest, size, [there.source()])
    here.arrivals.forget_run(OTHER.namespace, OTHER.run)
    await here.arrivals.close()
    assert files(here) == []


async def test_a_transfer_that_goes_on_is_not_disturbed_by_who_gives_up(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest, size = await broken_off(here, there, key(), OTHER)
    here.arrivals.fetch(OTHER, digest, size, [there.source()])
    here.arrivals.forget(key())
    (arrived,) = await here.arrived()
    assert (arrived.key, arrived.error) == (OTHER, "")
    assert here.content(OTHER) == pattern(size)
    assert files(here) == []


async def test_what_an_earlier_life_began_goes_unless_it_is_asked_for_again(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    asked, forgotten = (pattern(2 * CHUNK_BYTES + odd) for odd in (1, 2))
    digests = [bytes_digest(content) for content in (asked, forgotten)]
    for content, digest in zip((asked, forgotten), digests, strict=True):
        begun(store, content, digest)
    arriving = {digests[0]}
    kept = Kept(store.partial, arriving.__contains__)
    kept.drop_earlier()
    left = {path.name for path in store.partial.iterdir()}
    assert left == {digests[0].hex(), f"{digests[0].hex()}.done"}
    arriving.clear()
    kept.drop_earlier()
    assert {path.name for path in store.partial.iterdir()} == left, "it is of this life now"
    await store.close()


async def test_a_start_removes_what_the_store_was_making_itself(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    await store.close()
    content = pattern(CHUNK_BYTES + 1)
    begun(store, content, bytes_digest(content))
    arriving = {path.name for path in store.partial.iterdir()}
    for name in (f".{'0' * 64}.3.copy", f"{'0' * 64}.7", f"{'0' * 32}.1"):
        (store.partial / name).write_bytes(b"half")
    again = DiskStore(tmp_path)
    assert {path.name for path in again.partial.iterdir()} == arriving
    await again.close()
