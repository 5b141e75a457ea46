"""What a node's data server answers as HTTP has it, and to whom: only to members, and only what they may have."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from cluster_agent.data.transfer import many
from tests.data.network import DEADLINE, Network, key, request
from wire.identity import Identity, Role, server_name, ssl_client_context
from wire.identity.authority import Authority


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
