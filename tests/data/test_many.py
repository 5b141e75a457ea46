"""Many small units cross with few requests, each checked and told as if it had come alone."""

from __future__ import annotations

import pytest

from cluster_agent.data.transfer import batches, many
from cluster_agent.orders.messages import SMALL
from tests.data.counting import CountingProxy
from tests.data.network import Network, key
from wire.digests import bytes_digest


def content(number: int) -> bytes:
    return b"unit %d " % number * 50


async def test_they_cross_together_and_are_there_when_told(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "AT_ONCE", 40)
    monkeypatch.setattr(batches, "_BATCH_BYTES", 10_000)
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    for number in range(100):
        there.store.put(key(number), content(number))
    for number in range(100):
        here.arrivals.fetch(key(number), bytes_digest(content(number)), len(content(number)), [there.source(number)])
    told = await here.arrived(100)
    assert {(one.key, one.error, one.bytes) for one in told} == {(key(n), "", len(content(n))) for n in range(100)}
    assert all(here.content(key(number)) == content(number) for number in range(100))
    assert here.arrivals.wanted() == []
    assert not list(here.store.partial.iterdir())


async def test_what_is_not_as_it_should_be_is_told_and_the_others_come(network: Network) -> None:
    """Gone there, other bytes there, and one that only another server has."""
    here, there, other = [await network.peer(name) for name in ("edge1/n1", "cloud/n1", "cloud/n2")]
    there.store.put(key(1), content(1))
    there.store.put(key(3), b"other bytes")
    other.store.put(key(4), content(4))
    for number in (1, 2, 3):
        here.arrivals.fetch(key(number), bytes_digest(content(number)), len(content(number)), [there.source(number)])
    sources = [there.source(4), other.source(4)]
    here.arrivals.fetch(key(4), bytes_digest(content(4)), len(content(4)), sources)
    told = {arrived.key: arrived for arrived in await here.arrived(4)}
    assert (told[key(1)].error, told[key(4)].error) == ("", "")
    assert told[key(2)].gone
    assert "other bytes" in told[key(3)].error
    assert set(here.store.units()) == {key(1), key(4)}


async def test_a_cut_costs_one_more_request(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    for number in range(200):
        there.store.put(key(number), content(number))
    proxy = CountingProxy(there.address, 20_000, lambda: proxy.cut())
    async with proxy:
        for number in range(200):
            source = there.source(number, proxy.address)
            here.arrivals.fetch(key(number), bytes_digest(content(number)), len(content(number)), [source])
        told = await here.arrived(200)
    assert proxy.acted
    assert {one.error for one in told} == {""}


async def test_a_server_that_is_not_there_is_given_up_for_all(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    await there.server.stop()
    for number in range(20):
        here.arrivals.fetch(key(number), bytes_digest(content(number)), len(content(number)), [there.source(number)])
    assert all("gave up after 6 attempts" in one.error for one in await here.arrived(20))
    assert here.arrivals.wanted() == []


async def test_one_content_crosses_once_for_many_units_and_what_is_forgotten_is_not_told(network: Network) -> None:
    here, there = await network.peer("edge1/n1"), await network.peer("cloud/n1")
    for number in range(6):
        there.store.put(key(number), content(7))
        here.arrivals.fetch(key(number), bytes_digest(content(7)), len(content(7)), [there.source(number)])
    here.arrivals.forget(key(5))
    told = await here.arrived(5)
    assert sum(arrived.bytes for arrived in told) == len(content(7))
    assert set(here.store.units()) == {key(number) for number in range(5)}


async def test_an_answer_has_only_small_units_and_only_so_many_bytes(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await network.peer("cloud/n1")
    monkeypatch.setattr(many, "ANSWER_BYTES", 25)
    await there.put(bytes(SMALL + 1), 1)
    for number in (2, 3, 4):
        there.store.put(key(number), bytes(10))
    asked = many.decode_request(many.encode_request([key(number) for number in (1, 2, 9, 3, 4)]))
    found = many.decode_answer(many.answer(there.store, asked), 5)
    assert [one is not None for one in found] == [False, False, False, False, False]
    found = many.decode_answer(many.answer(there.store, asked[1:]), 4)
    assert [one is not None for one in found] == [True, False, True, False]
    with pytest.raises(ValueError, match="4 contents came for 5 units"):
        many.decode_answer(many.answer(there.store, asked[1:]), 5)
