"""Two members of which neither can dial the other speak through a relay, which can't read them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl

import pytest

from bdw_fed.v1.membership_pb2 import SignedRevocations
from cluster_agent.relay import messages as say
from cluster_agent.relay.core import Limits
from cluster_agent.relay.dialling import NotThroughError
from cluster_agent.relay.pipe import Pipe
from cluster_agent.relay.secured import Secured
from tests.relay.relays import DEADLINE, Federation, Running, until
from wire.identity import Identity, Role, ssl_client_context
from wire.identity.authority import Authority

A, B = Identity(Role.NODE, "edge1/n1"), Identity(Role.NODE, "edge2/n1")


async def test_bytes_cross_both_ways_and_each_end_has_seen_the_others_certificate(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    words = random.Random(1).randbytes(3 << 20)
    assert await a.ask(B, words) == words
    assert await b.ask(A, b"back") == b"back"
    assert (b.came, a.came) == ([A], [B])


async def test_what_passes_is_counted_by_link_and_direction(members: Federation) -> None:
    relay = await members.relay()
    a, _ = await members.two(relay)
    await a.ask(B, bytes(1 << 20))
    await until(lambda: not relay.now("pairs"))
    passed = relay.counts.passed()
    assert set(passed) == {("edge1", "edge2"), ("edge2", "edge1")}
    assert all(1 << 20 < count < (1 << 20) + 65536 for count in passed.values()), "TLS of the two, encrypted once"
    text = relay.counts.text()
    assert 'bdw_fed_relay_connections_total{caller="edge1",called="edge2"} 1' in text
    assert f'bdw_fed_relay_bytes_total{{sender="edge1",receiver="edge2"}} {passed["edge1", "edge2"]}' in text


async def test_many_pass_at_once(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    words = [number.to_bytes(2, "big") * 20_000 for number in range(40)]
    asked = [a.ask(B, each) if number % 2 else b.ask(A, each) for number, each in enumerate(words)]
    assert await asyncio.gather(*asked) == words


async def test_the_relay_never_sees_a_word_of_what_it_passes(
    members: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = bytearray()
    send = socket.socket.send

    class Spy(Pipe):
        def __init__(self, a: socket.socket, b: socket.socket, *, idle: float) -> None:
            super().__init__(_Spied(a), _Spied(b), idle=idle)

    class _Spied(socket.socket):
        def __init__(self, spied: socket.socket) -> None:
            super().__init__(fileno=spied.detach())

        def send(self, data: memoryview, *flags: int) -> int:  # type: ignore[override]
            seen.extend(data)
            return send(self, data, *flags)

    monkeypatch.setattr("cluster_agent.relay.service.Pipe", Spy)
    relay = await members.relay()
    a, _ = await members.two(relay)
    secret = b"nobody else's business " * 100
    assert await a.ask(B, secret) == secret
    assert len(seen) > 2 * len(secret)
    assert secret[:23] not in seen


async def test_who_does_not_take_what_is_sent_slows_the_sender_and_the_relay_keeps_little(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    ends: list[socket.socket] = []
    b.standing._let_in = ends.append
    sending = await a.routes.dial(B)
    await until(lambda: ends)
    sending.setblocking(False)
    sent, quiet = 0, 0
    with sending, ends[0]:
        while quiet < 50:  # until the kernel's buffers and the relay's piece are full
            try:
                sent += sending.send(bytes(1 << 20))
                quiet = 0
                assert sent < 1 << 30, "the relay takes all that comes"
            except BlockingIOError:
                quiet += 1
                await asyncio.sleep(0.005)
        passed = relay.counts.passed()["edge1", "edge2"]
        ends[0].setblocking(False)
        loop = asyncio.get_running_loop()
        got = 0
        async with asyncio.timeout(DEADLINE):
            while got < sent:
                got += len(await loop.sock_recv(ends[0], 1 << 20))
        assert passed < sent, "the relay had stopped reading"


async def test_an_end_that_has_said_all_still_hears_the_answer(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    ends: list[socket.socket] = []
    b.standing._let_in = ends.append
    loop = asyncio.get_running_loop()
    with await a.routes.dial(B) as asking:
        await until(lambda: ends)
        for sock in (asking, ends[0]):
            sock.setblocking(False)
        with ends[0]:
            await loop.sock_sendall(asking, b"all of it")
            asking.shutdown(socket.SHUT_WR)
            heard = b""
            async with asyncio.timeout(DEADLINE):
                while piece := await loop.sock_recv(ends[0], 100):
                    heard += piece
                await loop.sock_sendall(ends[0], heard.upper())
                assert await loop.sock_recv(asking, 100) == b"ALL OF IT"


async def test_a_pair_that_says_nothing_for_long_is_closed(members: Federation) -> None:
    relay = await members.relay(idle=0.05)
    a, b = await members.two(relay)
    ends: list[socket.socket] = []
    b.standing._let_in = ends.append
    with await a.routes.dial(B) as sock:
        await until(lambda: ends and not relay.now("pairs"))
        sock.settimeout(DEADLINE)
        assert await asyncio.to_thread(sock.recv, 1) == b""
    ends[0].close()


async def test_the_next_relay_is_taken_where_the_first_is_away_and_goes_on_being_used(members: Federation) -> None:
    first, second = await members.relay("r1"), await members.relay("r2")
    a, b = await members.two(first, second)
    await a.ask(B, b"1")
    assert a.routes.now("edge2") == "r1"
    await first.stop()
    assert await a.ask(B, b"2") == b"2"
    assert a.routes.now("edge2") == "r2"
    await first.start()
    await b.stands_at(first, second)
    assert await a.ask(B, b"3") == b"3"
    assert set(second.counts.passed()) == {("edge1", "edge2"), ("edge2", "edge1")}
    assert a.routes.now("edge2") == "r2"


async def test_a_relay_that_was_killed_knows_all_again_once_it_is_back(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    await a.ask(B, b"before")
    await relay.stop()
    with pytest.raises(NotThroughError, match="edge2/n1 is not reached over any relay"):
        await a.routes.dial(B)
    await relay.start()
    await b.stands_at(relay)
    assert await a.ask(B, b"after") == b"after"


# ------------------------------------------------------------------------------------------------ who is refused


async def test_a_stranger_is_refused(members: Federation) -> None:
    relay = await members.relay()
    _, b = await members.two(relay)
    elsewhere = Authority.create(members.directory / "elsewhere")
    for credentials in (elsewhere.issue(A, members.directory / "forged"), None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(b.credentials.ca)
        if credentials is not None:
            context.load_cert_chain(credentials.certificate, credentials.key)
        with pytest.raises((OSError, EOFError)):
            await _say(relay, context, say.Dial(B.uri))
    assert relay.refused("stranger") == 2
    assert not b.came


@pytest.mark.parametrize(("name", "whose"), [("edge1", "cluster edge1"), ("edge1/n1", "node edge1/n1")])
async def test_whose_certificates_are_revoked_is_cut_off_and_comes_back_with_others(
    members: Federation, name: str, whose: str
) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    c = members.member(Role.NODE, "edge3/n1")
    c.know({"edge1": (relay.place,), "edge2": (relay.place,)})
    await c.stands_at(relay)
    ends: list[socket.socket] = []
    b.standing._let_in = ends.append
    with await a.routes.dial(B) as speaking:
        await until(lambda: ends)
        c.standing.revoke(SignedRevocations(list=members.signed(**{name: 1}).list, signature=b"forged"))
        c.standing.revoke(members.signed(**{name: 1}))
        await until(lambda: not a.standing.at and not relay.now("pairs"))
        speaking.settimeout(DEADLINE)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.to_thread(speaking.recv, 1) == b""
    ends.pop().close()
    with pytest.raises(NotThroughError, match=f"certificates of {whose} were revoked"):
        await a.routes.dial(B)
    with pytest.raises(NotThroughError, match="edge1/n1 is not connected to this relay"):
        await c.routes.dial(A)
    again = members.member(Role.NODE, "edge1/n1", 1)
    again.know({"edge2": (relay.place,), "edge3": (relay.place,)})
    await again.stands_at(relay)
    (await again.routes.dial(B)).close()
    await until(lambda: ends)
    ends.pop().close()
    assert await c.ask(A, b"and is called") == b"and is called"


async def test_nobody_but_the_authority_has_somebody_cut_off(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    forged = members.signed(edge1=1)
    forged.signature = b"x" + forged.signature[1:]
    b.standing.revoke(forged)
    other = Authority.create(members.directory / "elsewhere")
    b.standing.revoke(SignedRevocations(list=forged.list, signature=other.sign(forged.list)))
    assert await a.ask(B, b"still heard") == b"still heard"
    assert await b.ask(A, b"still called") == b"still called"
    assert relay.refused("revoked") == 0


async def test_a_relay_that_is_started_again_is_told_what_is_revoked(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    b.standing.revoke(members.signed(edge1=1))
    await until(lambda: not a.standing.at)
    await relay.stop()
    await relay.start()
    await b.stands_at(relay)
    await until(lambda: relay.refused("revoked") > 0)
    with pytest.raises(NotThroughError, match="revoked"):
        await a.routes.dial(B)


async def test_a_relay_with_anothers_name_is_not_spoken_to(members: Federation) -> None:
    relay = await members.relay("r1")
    a, _ = await members.two(relay)
    relay.name = "r2"
    a.know({"edge2": (relay.place,)})
    with pytest.raises(NotThroughError, match=r"r2: .*certificate verify failed"):
        await a.routes.dial(B)


async def test_people_and_hubs_are_none_that_a_relay_serves(members: Federation) -> None:
    relay = await members.relay()
    await members.two(relay)
    for role, name in ((Role.USER, "ann"), (Role.HUB, "hub")):
        context = ssl_client_context(members.credentials(role, name))
        for word in (say.Stand(), say.Dial(B.uri)):
            said = await _say(relay, context, word)
            assert isinstance(said, say.Refused) and said.code == "forbidden", said


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("bdw-fed://agent/edge2", "forbidden"),
        ("bdw-fed://node/edge1/n2", "forbidden"),
        ("bdw-fed://hub/hub", "forbidden"),
        ("bdw-fed://node/../../etc", "forbidden"),
        ("bdw-fed://node/edge2/\0", "forbidden"),
        ("nonsense", "forbidden"),
        ("bdw-fed://node/edge2/n9", "away"),
    ],
)
async def test_nodes_speak_to_nodes_of_other_clusters_that_are_there(members: Federation, to: str, code: str) -> None:
    relay = await members.relay()
    await members.two(relay)
    said = await _say(relay, ssl_client_context(members.credentials(Role.NODE, "edge1/n1")), say.Dial(to))
    assert isinstance(said, say.Refused) and said.code == code, said


async def test_the_called_one_decides_who_may_call(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    b.unwanted.add(A)
    with pytest.raises(NotThroughError, match="node edge1/n1 is none that may call here"):
        await a.routes.dial(B)
    assert relay.refused("declined") == 1
    assert not b.came


async def test_a_call_is_answered_by_nobody_but_the_called_one(members: Federation) -> None:
    relay = await members.relay()
    a, b = await members.two(relay)
    await b.standing.close()
    await until(lambda: relay.now("standing") == 1)
    calls: list[say.Called] = []

    async def stand() -> None:
        secured = await b.routes.open(relay.place)
        try:
            await secured.say(say.Stand())
            assert isinstance(await secured.hear(say.from_relay), say.Standing)
            said = await secured.hear(say.from_relay)
            assert isinstance(said, say.Called)
            calls.append(said)
            thief = ssl_client_context(members.credentials(Role.NODE, "edge3/n1"))
            stolen = await _say(relay, thief, say.Answer(said.token))
            assert isinstance(stolen, say.Refused) and stolen.code == "gone"
            (await b.routes.answer(relay.place, said.token)).close()
            again = await _say(relay, ssl_client_context(b.credentials), say.Answer(said.token))
            assert isinstance(again, say.Refused) and again.code == "gone", "a token is good once"
        finally:
            secured.close()

    standing = asyncio.create_task(stand())
    await until(lambda: relay.now("standing") == 2)
    (await a.routes.dial(B)).close()
    await standing
    assert calls[0].by == A.uri


async def test_who_is_called_and_does_not_answer_is_not_waited_for_longer_than_stated(members: Federation) -> None:
    relay = await members.relay(limits=Limits(seconds=0.05))
    a, b = await members.two(relay)
    b.standing._called = _ignore  # type: ignore[method-assign]
    with pytest.raises(NotThroughError, match="edge2/n1 did not answer in time"):
        await a.routes.dial(B)
    assert relay.now("waiting") == 0


async def test_no_cluster_takes_more_than_its_share(members: Federation) -> None:
    relay = await members.relay(limits=Limits(connections=3, of_a_cluster=2))
    a, b = await members.two(relay)
    ends: list[socket.socket] = []
    b.standing._let_in = ends.append
    taken = [await a.routes.dial(B), await a.routes.dial(B)]
    with pytest.raises(NotThroughError, match="edge1 takes part in 2 connections already"):
        await a.routes.dial(B)
    await until(lambda: len(ends) == 2)
    for sock in (*taken, *ends):
        sock.close()
    await until(lambda: not relay.now("pairs"))
    ends.clear()
    again = await a.routes.dial(B)
    await until(lambda: ends)
    for sock in (again, *ends):
        sock.close()


async def test_connections_that_say_nothing_are_few_and_do_not_keep_members_out(members: Federation) -> None:
    relay = await members.relay(greeting=20)
    host, _, port = relay.address.rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    await until(lambda: relay.now("greeting") == 20 and relay.refused("crowd") == 180)
    for _, writer in silent:
        writer.close()
    a, _ = await members.two(relay)
    assert await a.ask(B, b"still here") == b"still here"


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), bytes(64)])
async def test_what_is_no_tls_of_ours_is_refused(members: Federation, words: bytes) -> None:
    relay = await members.relay()
    host, _, port = relay.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    writer.write_eof()
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()
    await until(lambda: relay.refused("stranger") == 1)


@pytest.mark.parametrize("words", [b"\x02\x00\x01\xc0", b"\x01\xff\xff", b"\x01\x00\x02\xff\xff"])
async def test_a_word_that_is_none_ends_the_connection(members: Federation, words: bytes) -> None:
    relay = await members.relay()
    a, _ = await members.two(relay)
    secured = await a.routes.open(relay.place)
    try:
        secured._tls.write(words)
        await secured._flush()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError):
                await secured.hear(say.from_relay)
    finally:
        secured.close()
    assert await a.ask(B, b"others go on") == b"others go on"


async def _ignore(*_: object) -> None:
    """A call that nobody cares for."""


async def _say(relay: Running, context: ssl.SSLContext, word: say.FromMember) -> say.FromRelay:
    """What the relay answers to a first word."""
    host, _, port = relay.address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setblocking(False)
    secured = Secured(sock, context, f"{relay.name}.relay.bdw-fed.internal")
    try:
        async with asyncio.timeout(DEADLINE):
            await secured.handshake()
            await secured.say(word)
            return await secured.hear(say.from_relay)
    finally:
        secured.close()
