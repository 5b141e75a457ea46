"""Identity's promise: nobody is answered by, or taken for, somebody else."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from wire.identity import (
    Credentials,
    Identity,
    Role,
    channel_options,
    grpc_channel_credentials,
    grpc_server_credentials,
    identity_of_tls,
    require,
    server_name,
    server_options,
    ssl_client_context,
    ssl_server_context,
)
from wire.identity.authority import Authority

AGENT = Identity(Role.AGENT, "edge1")
NODE = Identity(Role.NODE, "edge1/n1")
CALL = "/test.Test/Whoami"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


@asynccontextmanager
async def agent_server(credentials: Credentials) -> AsyncIterator[int]:
    """A server that answers nodes with the identity that it sees."""

    async def whoami(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return str(await require(context, Role.NODE)).encode()

    handler = grpc.unary_unary_rpc_method_handler(whoami)
    server = grpc.aio.server(options=server_options())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Whoami": handler}),))
    port = server.add_secure_port("127.0.0.1:0", grpc_server_credentials(credentials))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def ask(port: int, credentials: Credentials, expected: Identity) -> str:
    options = channel_options(expected)
    address = f"127.0.0.1:{port}"
    async with grpc.aio.secure_channel(address, grpc_channel_credentials(credentials), options=options) as channel:
        answer: bytes = await channel.unary_unary(CALL)(b"", timeout=10)
        return answer.decode()


async def test_a_server_knows_its_caller_by_the_certificate(authority: Authority, tmp_path: Path) -> None:
    node = authority.issue(NODE, tmp_path / "node")
    async with agent_server(authority.issue(AGENT, tmp_path / "agent")) as port:
        assert await ask(port, node, AGENT) == "node edge1/n1"


async def test_a_caller_of_another_role_is_refused(authority: Authority, tmp_path: Path) -> None:
    user = authority.issue(Identity(Role.USER, "someone"), tmp_path / "user")
    async with agent_server(authority.issue(AGENT, tmp_path / "agent")) as port:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(port, user, AGENT)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "user someone may not do this: it is for node"


async def test_a_client_refuses_a_member_that_is_not_the_one_it_meant(authority: Authority, tmp_path: Path) -> None:
    node = authority.issue(NODE, tmp_path / "node")
    async with agent_server(authority.issue(AGENT, tmp_path / "agent")) as port:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(port, node, Identity(Role.AGENT, "edge2"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "other").issue(NODE, tmp_path / "stranger")
    mixed = Credentials(stranger.certificate, stranger.key, tmp_path / "ca" / "ca.pem")
    async with agent_server(authority.issue(AGENT, tmp_path / "agent")) as port:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(port, mixed, AGENT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_plain_tls_servers_check_and_know_their_clients_too(authority: Authority, tmp_path: Path) -> None:
    seen: asyncio.Queue[Identity] = asyncio.Queue()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await seen.put(identity_of_tls(writer.get_extra_info("peercert")))
        writer.close()
        await writer.wait_closed()

    node = authority.issue(NODE, tmp_path / "node")
    agent = authority.issue(AGENT, tmp_path / "agent")
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=ssl_server_context(node))
    async with server:
        port = server.sockets[0].getsockname()[1]
        context = ssl_client_context(agent)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name(NODE))
        assert await asyncio.wait_for(seen.get(), 10) == AGENT
        writer.close()


def test_keys_and_the_authority_are_readable_by_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    credentials = authority.issue(AGENT, tmp_path / "agent")
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    for path in (tmp_path / "ca" / "ca-key.pem", credentials.key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Credentials.load(tmp_path / "agent") == credentials


def test_an_authority_is_never_overwritten_and_opens_again(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        Authority.create(tmp_path / "ca")
    Authority.open(tmp_path / "ca").issue(AGENT, tmp_path / "agent")


@pytest.mark.parametrize("name", ["", "../x", "a/b/c", "A", "a_b", "a\0b", "-a", "a/", "x" * 64])
def test_names_that_could_be_paths_or_confuse_are_no_identities(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name"):
        Identity(Role.AGENT, name)


def test_an_identity_survives_the_way_through_its_uri() -> None:
    assert Identity.parse(NODE.uri) == NODE
    assert NODE.cluster == "edge1"
    later = Identity(Role.AGENT, "edge1", 4)
    assert Identity.parse(later.uri) == later
    alone = Identity(Role.NODE, "edge1/n1", 4, cluster_generation=2)
    assert Identity.parse(alone.uri).generation == 4
    assert Identity.parse(alone.uri).agent == Identity(Role.AGENT, "edge1", 2)
    assert Identity(Role.NODE, "edge1/n1", 4).agent == later
    with pytest.raises(ValueError, match="no number"):
        Identity.parse("bdw-fed://agent/edge1?generation=-1")
    with pytest.raises(ValueError, match="not an identity"):
        Identity.parse("spiffe://agent/edge1")


async def test_a_running_server_shows_a_renewed_certificate_and_keeps_its_connections(
    authority: Authority, tmp_path: Path
) -> None:
    node = authority.issue(NODE, tmp_path / "node")
    agent = authority.issue(AGENT, tmp_path / "agent")
    newer = Identity(Role.AGENT, "edge1", 1)
    async with agent_server(agent) as port:
        options = channel_options(AGENT)
        address = f"127.0.0.1:{port}"
        async with grpc.aio.secure_channel(address, grpc_channel_credentials(node), options=options) as channel:
            call = channel.unary_unary(CALL)
            assert await call(b"", timeout=10) == b"node edge1/n1"
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(port, node, newer)
            authority.issue(newer, tmp_path / "agent")
            assert await ask(port, node, newer) == "node edge1/n1"
            assert await call(b"", timeout=10) == b"node edge1/n1"
            assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_a_server_in_the_middle_of_a_renewal_goes_on_with_the_pair_of_before(
    authority: Authority, tmp_path: Path
) -> None:
    node = authority.issue(NODE, tmp_path / "node")
    agent = authority.issue(AGENT, tmp_path / "agent")
    async with agent_server(agent) as port:
        other = authority.issue(AGENT, tmp_path / "other")
        agent.certificate.write_bytes(other.certificate.read_bytes())  # of another key
        assert await ask(port, node, AGENT) == "node edge1/n1"
        agent.key.write_bytes(b"")
        assert await ask(port, node, AGENT) == "node edge1/n1"


async def test_a_caller_without_a_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    agent = authority.issue(AGENT, tmp_path / "agent")
    async with agent_server(agent) as port:
        naked = grpc.ssl_channel_credentials(agent.ca.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", naked, options=channel_options(AGENT)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(CALL)(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_certificate_is_refused_on_either_side(authority: Authority, tmp_path: Path) -> None:
    minute = 1 / (24 * 60)
    old_node = authority.issue(NODE, tmp_path / "old-node", days=-minute)
    old_agent = authority.issue(AGENT, tmp_path / "old-agent", days=-minute)
    node, agent = authority.issue(NODE, tmp_path / "node"), authority.issue(AGENT, tmp_path / "agent")
    for server, client in ((agent, old_node), (old_agent, node)):
        async with agent_server(server) as port:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(port, client, AGENT)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("expected", "shown", "answered"), [(0, 2, True), (1, 2, True), (2, 2, True), (3, 2, False)])
async def test_who_expects_a_generation_is_not_answered_by_a_lower_one(
    authority: Authority, tmp_path: Path, expected: int, shown: int, answered: bool
) -> None:
    node = authority.issue(NODE, tmp_path / "node")
    agent = authority.issue(Identity(Role.AGENT, "edge1", shown), tmp_path / "agent")
    async with agent_server(agent) as port:
        asked = ask(port, node, Identity(Role.AGENT, "edge1", expected))
        if answered:
            assert await asked == "node edge1/n1"
        else:
            with pytest.raises(grpc.aio.AioRpcError):
                await asked
