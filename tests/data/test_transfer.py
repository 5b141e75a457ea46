"""Bytes between nodes: whole or not at all, once for each content, going on after a cut, and only for members."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from cluster_agent.data.errors import TransferError
from cluster_agent.data.transfer import many
from cluster_agent.data.transfer.client import Source
from cluster_agent.data.transfer.partial import CHUNK_BYTES, PartialFile
from cluster_agent.orders.messages import SMALL
from tests.data.counting import CountingProxy
from tests.data.network import DEADLINE, MIB, Network, Peer, key, pattern
from wire.digests import bytes_digest
from wire.identity import Identity, Role, server_name, ssl_client_context
from wire.identity.authority import Authority


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


async def request(
    peer: Peer, context: ssl.SSLContext, method: str, path: str, **options: Any
) -> tuple[int, Mapping[str, str], bytes]:
    name = server_name(Identity(Role.NODE, peer.name))
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.request(method, f"https://{peer.address}{path}", server_hostname=name, **options) as response,
    ):
        return response.status, response.headers.copy(), await response.read()


async def test_ranges_as_http_has_them(network: Network) -> None:
    there = await network.peer("cloud/n1")
    digest = await there.put(b"0123456789")
    context = ssl_client_context(there.credentials)
    path = f"/v1/default/run1/{key().unit.hex()}"
    for asked, status, body, told in [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
    ]:
        headers = {"Range": asked} if asked else {}
        got, answer, data = await request(there, context, "GET", path, headers=headers)
        assert (got, answer.get("Content-Range")) == (status, told), asked
        assert body in (None, data)
        assert answer["ETag"] == f'"{digest.hex()}"'
    status, answer, data = await request(there, context, "HEAD", path)
    assert (status, answer["Content-Length"], data) == (200, "10", b"")


@pytest.mark.parametrize(
    ("role", "name", "get", "put"),
    [
        (Role.NODE, "edge1/n1", 200, 404),
        (Role.AGENT, "edge1", 200, 403),
        (Role.NODE, "edge9/n1", 403, 404),
        (Role.AGENT, "edge9", 403, 403),
        (Role.USER, "anna", 403, 403),
        (Role.HUB, "hub", 403, 403),
        (Role.ETCD, "etcd", 403, 403),
    ],
)
async def test_who_may_do_what(network: Network, role: Role, name: str, get: int, put: int) -> None:
    there = await network.peer("cloud/n1")
    await there.put(b"x")
    context = ssl_client_context(network.credentials(role, name))
    path = f"/v1/default/run1/{key().unit.hex()}"
    assert (await request(there, context, "GET", path))[0] == get
    headers = {"Content-Range": "bytes 0-0/1"}
    assert (await request(there, context, "PUT", path, headers=headers, data=b"y"))[0] == put


@pytest.mark.parametrize("name", ["edge1", "edge1/n1"], ids=["with its cluster", "by itself"])
async def test_whose_certificate_is_revoked_is_served_no_more_on_connections_that_it_has(
    network: Network, name: str
) -> None:
    there = await network.peer("cloud/n1")
    await there.put(b"x")
    path = f"/v1/default/run1/{key().unit.hex()}"
    context = ssl_client_context(network.credentials(Role.NODE, "edge1/n1"))
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    server = server_name(Identity(Role.NODE, "cloud/n1"))
    async with aiohttp.ClientSession(connector=connector) as session:
        for status, revoked in ((200, {}), (200, {"edge2": 1, "edge1/n2": 1}), (401, {name: 1})):
            network.revocations.learn(revoked)
            with capture_logs() as logs:
                async with session.get(f"https://{there.address}{path}", server_hostname=server) as answer:
                    assert answer.status == status
                    words = await answer.text()
            refused = [entry["reason"] for entry in logs if entry["event"] == "a caller was refused"]
            assert refused == ([words] if status == 401 else [])
    fresh = network.authority.issue(Identity(Role.NODE, "edge1/n1", 1), network.directory / "fresh")
    assert (await request(there, ssl_client_context(fresh), "GET", path))[0] == 200


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


async def test_nobody_without_a_certificate_of_ours_is_served_and_it_is_logged(
    network: Network, tmp_path: Path
) -> None:
    there = await network.peer("cloud/n1")
    stranger = Authority.create(tmp_path / "other").issue(Identity(Role.NODE, "edge1/n1"), tmp_path / "stranger")
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(there.credentials.ca)
    foreign = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    foreign.load_verify_locations(there.credentials.ca)
    foreign.load_cert_chain(stranger.certificate, stranger.key)
    await there.put(b"x")
    with capture_logs() as logs:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await request(there, foreign, "GET", f"/v1/default/run1/{key().unit.hex()}")
        async with asyncio.timeout(DEADLINE):
            while not any(entry["event"] == "a connection was refused" for entry in logs):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a thread of the server says it
    for method, path, body in (
        ("GET", f"/v1/default/run1/{key().unit.hex()}", b""),
        ("GET", f"/v1/default/run1/{key(2).unit.hex()}", b""),
        ("PUT", f"/v1/default/run1/{key(2).unit.hex()}", b"y"),
        ("POST", "/v1/units", many.encode_request([key()])),
        ("POST", "/v1/plain", b""),
    ):
        headers = {"Content-Range": "bytes 0-0/1"} if method == "PUT" else {}
        status, _, answer = await request(there, bare, method, path, data=body, headers=headers)
        assert (status, len(answer) < 200) in ((401, True), (403, True), (404, True)), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/default/run1/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v1/..%2f..%2f/run1/" + "00" * 16,
        "/v1/../../../etc/passwd",
        "/v1/default/%2e%2e/" + "00" * 16,
        "/v1/default/run1/" + "zz" * 16,
        "/v1/default/run1/00",
        "/etc/passwd",
    ],
)
async def test_names_in_a_request_never_become_paths(network: Network, path: str) -> None:
    from yarl import URL

    there = await network.peer("cloud/n1")
    name = server_name(Identity(Role.NODE, there.name))
    context = ssl_client_context(there.credentials)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(URL(f"https://{there.address}{path}", encoded=True), server_hostname=name) as response,
    ):
        assert response.status == 404
