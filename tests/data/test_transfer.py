"""Bytes between nodes: whole or not at all, once for each content, going on after a cut."""

from __future__ import annotations

import asyncio

import pytest

from cluster_agent.data.errors import TransferError
from cluster_agent.data.transfer.client import Source
from cluster_agent.data.transfer.partial import CHUNK_BYTES, PartialFile
from cluster_agent.orders.messages import SMALL
from tests.data.counting import CountingProxy
from tests.data.network import DEADLINE, MIB, Network, key, pattern
from wire.digests import bytes_digest


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 12345])
async def test_a_unit_is_pulled_whole(network: Network, size: int) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(size)
    digest = await there.put(content)
    here.arrivals.fetch(key(2), digest, size, [there.source()])
    (arrived,) = await here.arrived()
    assert (arrived.key, arrived.error, arrived.bytes) == (key(2), "", size)
    assert here.content(key(2)) == content
    assert list(here.store.partial.iterdir()) == []


async def test_a_pull_that_is_cut_goes_on_where_it_was(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(4 * CHUNK_BYTES)
    digest = await there.put(content)
    proxy = CountingProxy(there.address, 3 * CHUNK_BYTES, lambda: proxy.cut())
    async with proxy:
        here.arrivals.fetch(key(), digest, len(content), [there.source(address=proxy.address)])
        (arrived,) = await here.arrived()
    assert arrived.error == ""
    assert proxy.acted
    assert here.content(key()) == content
    assert proxy.forwarded < len(content) + 2 * CHUNK_BYTES


async def test_a_pull_goes_on_after_a_restart(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(4 * CHUNK_BYTES)
    digest = await there.put(content)
    partial = PartialFile(here.store.partial, digest, len(content))
    for chunk in (0, 2):
        partial.write(chunk, content[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES])
    partial.write(1, content[CHUNK_BYTES : CHUNK_BYTES + 5])
    partial.close()
    here.arrivals.fetch(key(), digest, len(content), [there.source()])
    (arrived,) = await here.arrived()
    assert (arrived.error, arrived.bytes) == ("", 2 * CHUNK_BYTES)
    assert here.content(key()) == content


async def test_damage_before_a_restart_is_found_and_all_is_pulled_again(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(2 * CHUNK_BYTES)
    digest = await there.put(content)
    partial = PartialFile(here.store.partial, digest, len(content))
    partial.write(0, bytes(CHUNK_BYTES))
    partial.close()
    here.arrivals.fetch(key(), digest, len(content), [there.source()])
    (arrived,) = await here.arrived()
    assert (arrived.error, arrived.bytes) == ("", 3 * CHUNK_BYTES)


async def test_many_units_of_one_content_cross_once(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(MIB)
    digest = await there.put(content)
    async with CountingProxy(there.address) as proxy:
        for number in range(2, 12):
            here.arrivals.fetch(key(number), digest, MIB, [there.source(address=proxy.address)])
        told = await here.arrived(10)
        here.arrivals.fetch(key(20), digest, MIB, [there.source(address=proxy.address)])
        told = await here.arrived(11)
    assert {arrived.error for arrived in told} == {""}
    assert sum(arrived.bytes for arrived in told) == MIB
    assert proxy.forwarded < 1.1 * MIB
    assert here.store.find(key(20)).digest == digest


async def test_wrong_bytes_are_refused(network: Network) -> None:
    """A server that has other bytes under the name, and one whose file was damaged under its digest."""
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    right, wrong = b"right bytes!" * SMALL, b"wrong bytes!" * SMALL
    for count, size in enumerate((12, len(right)), 1):
        await there.put(wrong[:size])
        here.arrivals.fetch(key(), bytes_digest(right[:size]), size, [there.source()])
        assert "other bytes under this unit's name" in (await here.arrived(count))[-1].error
    digest = await there.put(right, 2)
    stored = there.store.find(key(2))
    stored.file.chmod(0o644)
    stored.file.write_bytes(wrong)
    stored.stamp = stored.file.stat().st_mtime_ns
    here.arrivals.fetch(key(2), digest, len(right), [there.source(2)])
    assert "digest" in (await here.arrived(3))[2].error
    assert list(here.store.units()) == []
    assert list(here.store.partial.iterdir()) == [] or not here.arrivals.wanted()


async def test_a_peer_without_the_unit_means_gone_and_another_is_tried(network: Network) -> None:
    here, empty, there = [await network.peer(name) for name in ("edge1/n1", "cloud/n1", "cloud/n2")]
    digest = await there.put(b"content")
    here.arrivals.fetch(key(), digest, 7, [empty.source(), there.source()])
    assert (await here.arrived())[0].error == ""
    here.arrivals.fetch(key(3), bytes_digest(b"gone"), 4, [empty.source(3), there.source(3)])
    arrived = (await here.arrived(2))[1]
    assert arrived.gone
    assert "no more" in arrived.error


async def test_a_peer_that_can_not_be_reached_is_given_up_in_the_end(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.server.stop()
    here.arrivals.fetch(key(), bytes_digest(b"x"), 1, [there.source()])
    arrived = (await here.arrived())[0]
    assert "gave up after 6 attempts" in arrived.error
    assert not arrived.gone


async def test_the_wrong_server_is_not_believed(network: Network) -> None:
    """Its certificate must name the node that was meant."""
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest = await there.put(b"x")
    impostor = Source(key(), there.address, "n9.cloud.node.bdw-fed.internal")
    here.arrivals.fetch(key(), digest, 1, [impostor])
    assert "gave up" in (await here.arrived())[0].error


async def test_a_unit_that_is_not_wanted_any_more_leaves_nothing(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(4 * CHUNK_BYTES)
    digest = await there.put(content)
    held = asyncio.Event()

    async def hold() -> None:
        await proxy.freeze()
        held.set()

    proxy = CountingProxy(there.address, CHUNK_BYTES, hold)
    async with proxy:
        here.arrivals.fetch(key(), digest, len(content), [there.source(address=proxy.address)])
        await asyncio.wait_for(held.wait(), DEADLINE)
        here.arrivals.forget_run("default", "run1")
        await here.arrivals.close()
        assert list(here.store.partial.iterdir()) == []
    assert here.told == []
    assert here.arrivals.wanted() == []


async def test_a_unit_that_is_forgotten_and_wanted_again_comes(network: Network) -> None:
    """At any moment of the transfer."""
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(CHUNK_BYTES + 5)
    digest = await there.put(content)
    for turns in range(0, 60, 3):
        here.told.clear()
        here.arrivals.fetch(key(), digest, len(content), [there.source()])
        for _ in range(turns):
            await asyncio.sleep(0)
        here.arrivals.forget(key())
        here.arrivals.fetch(key(2), digest, len(content), [there.source()])
        told = await here.arrived(1)
        if told[0].key == key():  # it had come before it was forgotten
            told = await here.arrived(2)
        assert (told[-1].key, told[-1].error) == (key(2), "")
        assert here.content(key(2)) == content
        await here.store.free([key(), key(2)])
    assert here.arrivals.wanted() == []


@pytest.mark.parametrize("size", [0, 1000, 3 * CHUNK_BYTES])
async def test_a_unit_is_pushed_whole(network: Network, size: int) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(size)
    digest = await here.put(content)
    there.arrivals.expect(key(2), digest, size, "edge1")
    stored = here.store.find(key())
    await here.client.push(stored, there.source(2))
    (arrived,) = await there.arrived()
    assert (arrived.key, arrived.error, arrived.bytes) == (key(2), "", size)
    assert there.content(key(2)) == content
    await here.client.push(stored, there.source(2))


async def test_a_push_that_is_cut_goes_on_where_it_was(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    content = pattern(4 * CHUNK_BYTES)
    digest = await here.put(content)
    there.arrivals.expect(key(), digest, len(content), "edge1")
    proxy = CountingProxy(there.address, 3 * CHUNK_BYTES, lambda: proxy.cut())
    async with proxy:
        await here.client.push(here.store.find(key()), there.source(address=proxy.address))
    assert (await there.arrived())[0].error == ""
    assert proxy.acted
    assert proxy.forwarded < len(content) + 2 * CHUNK_BYTES


async def test_a_push_is_taken_only_as_expected(network: Network) -> None:
    """Not expected, of another size, from another cluster, or with the wrong bytes: refused, and nothing is kept."""
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digest = await here.put(b"content")
    stored = here.store.find(key())
    with pytest.raises(TransferError, match="not expected there"):
        await here.client.push(stored, there.source())
    there.arrivals.expect(key(2), digest, 8, "edge1")
    with pytest.raises(TransferError, match="422"):
        await here.client.push(stored, there.source(2))
    there.arrivals.forget(key(2))
    there.arrivals.expect(key(3), digest, 7, "edge2")
    with pytest.raises(TransferError, match="403"):
        await here.client.push(stored, there.source(3))
    there.arrivals.forget(key(3))
    there.arrivals.expect(key(4), bytes_digest(b"CONTENT"), 7, "edge1")
    with pytest.raises(TransferError, match="422"):
        await here.client.push(stored, there.source(4))
    assert there.told == []
    assert list(there.store.units()) == []


async def test_a_node_that_is_revoked_is_asked_nothing_more_and_is_again_once_it_has_joined(network: Network) -> None:
    """Who was told of the node before means the one that has joined since, and on no connection the one before."""
    here, stolen = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    digests = [await stolen.put(bytes([number]), number) for number in (1, 2)]
    here.arrivals.fetch(key(1), digests[0], 1, [stolen.source(1)])
    assert (await here.arrived())[0].error == ""
    network.revocations.learn({"cloud/n1": 1})
    here.arrivals.fetch(key(2), digests[1], 1, [stolen.source(2)])
    assert "gave up" in (await here.arrived(2))[1].error
    again = await network.peer("cloud/n1", 1)
    digest = await again.put(b"y", 3)
    here.arrivals.fetch(key(3), digest, 1, [again.source(3)])
    assert (await here.arrived(3))[2].error == ""
