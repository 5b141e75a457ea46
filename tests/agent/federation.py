"""Stand-ins for the agent's neighbours, over real gRPC and mTLS: a hub, a node daemon; and waiting with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import node_pb2 as n
from bdw_fed.v1.federation_pb2_grpc import FederationServiceServicer, add_FederationServiceServicer_to_server
from bdw_fed.v1.membership_pb2 import CertifyRequest, CertifyResponse, SignedRevocations
from bdw_fed.v1.node_pb2_grpc import NodeServiceStub
from cluster_agent.orders import messages as orders
from wire.identity import (
    Credentials,
    Identity,
    Role,
    channel_options,
    grpc_channel_credentials,
    grpc_server_credentials,
    require,
    server_options,
)
from wire.identity.authority import Authority
from wire.identity.requests import BadRequestError, requested_key
from wire.identity.revocations import Revocations, statement
from wire.versions import SESSION

DEADLINE = 20.0
T = TypeVar("T")


async def within(waiting: Awaitable[T], seconds: float = DEADLINE) -> T:
    """The result, or a TimeoutError that fails the test."""
    async with asyncio.timeout(seconds):
        return await waiting


async def until(true: Callable[[], Any], seconds: float = DEADLINE) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Members:
    """Certificates for whoever takes part."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "ca")

    def issue(self, role: Role, name: str, generation: int = 0, *, days: float = 90) -> Credentials:
        place = self.directory / f"{role}-{name.replace('/', '-')}-{generation}"
        return self.authority.issue(Identity(role, name, generation), place, days=days)

    def signed(self, **revoked: int) -> SignedRevocations:
        """A list of revocations, as the hub tells it."""
        told = statement(Revocations(revoked))
        return SignedRevocations(list=told, signature=self.authority.sign(told))


class FakeSession:
    """The hub's end of one session: what the agent said, and a way to say something."""

    def __init__(self, hello: f.AgentHello) -> None:
        self.hello = hello
        self.frames: list[f.SessionRequest] = []
        self.heard = asyncio.Condition()
        self.out: asyncio.Queue[f.SessionResponse | None] = asyncio.Queue()

    def say(self, **fields: Any) -> None:
        self.out.put_nowait(f.SessionResponse(**fields))

    def cut(self) -> None:
        """End the stream without a word."""
        self.out.put_nowait(None)

    async def wait_for(self, matches: Callable[[f.SessionRequest], Any]) -> f.SessionRequest:
        """The first frame of this session that matches, also if it came before."""

        def first() -> f.SessionRequest | None:
            return next((frame for frame in self.frames if matches(frame)), None)

        async with asyncio.timeout(DEADLINE), self.heard:
            await self.heard.wait_for(lambda: first() is not None)
        found = first()
        assert found is not None
        return found

    async def wait_kind(self, kind: str) -> f.SessionRequest:
        return await self.wait_for(lambda frame: frame.WhichOneof("kind") == kind)


class FakeHub(FederationServiceServicer):
    """A hub that does what the test says: `received` and `hub_id` go into its welcomes; it relays between sessions."""

    def __init__(self) -> None:
        self.hub_id = b"hub-1"
        self.received: dict[str, int] = {}
        self.credits = 1000
        self.version = SESSION.newest
        self.auto_ack = True
        self.live: dict[str, FakeSession] = {}
        self.sessions: asyncio.Queue[FakeSession] = asyncio.Queue()
        self.directories: dict[str, f.PeerDirectory] = {}
        self.blobs: dict[bytes, bytes] = {}
        self.pulls = 0
        self.drop_relayed: Callable[[f.PeerRelay], bool] = lambda relay: False
        self.relayed = 0
        self.mute = False
        self.renew_after = 0.0
        self.authority: Authority | None = None  # with it, it certifies whatever it is asked for
        self.life = timedelta(hours=1)
        self.certified: list[Identity] = []

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        cluster = (await require(context, Role.AGENT)).name
        requests = aiter(request_iterator)
        hello = (await anext(requests)).hello
        assert hello.cluster == cluster
        if self.mute:
            await asyncio.Event().wait()
        session = self.live[cluster] = FakeSession(hello)
        session.say(
            welcome=f.HubWelcome(
                hub_id=self.hub_id,
                protocol=self.version,
                received=self.received.get(cluster, 0),
                credits=self.credits,
                heartbeat=5.0,
                version="test",
                renew_after=self.renew_after,
            )
        )
        if cluster in self.directories:
            session.say(peers=self.directories[cluster])
        self.sessions.put_nowait(session)
        reader = asyncio.create_task(self._read(cluster, session, requests))
        try:
            while (frame := await session.out.get()) is not None:
                await context.write(frame)
        finally:
            if self.live.get(cluster) is session:
                del self.live[cluster]
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def PullBundle(self, request: Any, context: Any) -> AsyncIterator[f.PullBundleResponse]:
        self.pulls += 1
        if request.digest not in self.blobs:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        blob = self.blobs[request.digest]
        for start in range(0, len(blob), 1000):
            yield f.PullBundleResponse(chunk=blob[start : start + 1000])

    async def Certify(self, request: CertifyRequest, context: Any) -> CertifyResponse:
        caller = await require(context, Role.AGENT)
        if self.authority is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this hub certifies nobody")
        identity = caller
        if request.node:
            generation = max(caller.generation, request.valid_from)
            identity = Identity(Role.NODE, f"{caller.cluster}/{request.node}", generation, caller.generation)
        try:
            certificate = self.authority.certify(identity, requested_key(request.request), self.life)
        except BadRequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self.certified.append(identity)
        return CertifyResponse(certificate=certificate)

    async def _read(self, cluster: str, session: FakeSession, requests: AsyncIterator[f.SessionRequest]) -> None:
        async for frame in requests:
            if frame.WhichOneof("kind") == "relay":
                to = self.live.get(frame.relay.to_cluster)
                if to is not None and not self.drop_relayed(frame.relay):
                    self.relayed += 1
                    to.say(relay=frame.relay)
            if frame.seq and self.auto_ack:
                self.received[cluster] = max(self.received.get(cluster, 0), frame.seq)
                session.say(ack=self.received[cluster], credits=1)
            async with session.heard:
                session.frames.append(frame)
                session.heard.notify_all()


class Served:
    """A gRPC server of the test: started and stopped by `async with`; the same port again on each start."""

    def __init__(self, credentials: Credentials, add: Callable[[grpc.aio.Server], None], port: int = 0) -> None:
        self._credentials = credentials
        self._add = add
        self.port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Served:
        self._server = grpc.aio.server(options=server_options())
        self._add(self._server)
        credentials = grpc_server_credentials(self._credentials)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


def served_hub(members: Members, hub: FakeHub) -> Served:
    credentials = members.issue(Role.HUB, "hub")
    return Served(credentials, lambda server: add_FederationServiceServicer_to_server(hub, server))


class FakeNode:
    """A node daemon without workers: attaches, keeps the commands that it gets, says what the test says."""

    def __init__(
        self, address: str, cluster: str, node: str, credentials: Credentials, incarnation: bytes = b"1"
    ) -> None:
        self._address = address
        self._credentials = credentials
        self.hello = n.NodeHello(
            cluster=cluster, node=node, incarnation=incarnation, data_address="127.0.0.1:1", server_name="x"
        )
        self.hello.status.cpus = 4
        self.hello.orders_version = orders.VERSION
        self.hello_results: list[orders.Upward] = []
        self.responses: list[n.AttachResponse] = []
        self.commands: list[n.NodeCommand] = []
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> FakeNode:
        self._channel = grpc.aio.secure_channel(
            self._address,
            grpc_channel_credentials(self._credentials),
            options=channel_options(Identity(Role.AGENT, self.hello.cluster)),
        )
        self.stub = NodeServiceStub(self._channel)
        self.call = self.stub.Attach()
        results = orders.encode(self.hello_results) if self.hello_results else b""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused before: the reader sees that
            await self.call.write(n.AttachRequest(messages=[n.NodeMessage(hello=self.hello)], results=results))
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._channel.close()

    async def say(self, *messages: n.NodeMessage, results: Iterable[orders.Upward] = ()) -> None:
        said = list(results)
        await self.call.write(n.AttachRequest(messages=messages, results=orders.encode(said) if said else b""))

    async def command(self, kind: str, number: int = 1) -> n.NodeCommand:
        """The `number`th command of this kind, also if it came before."""

        def those() -> list[n.NodeCommand]:
            return [command for command in self.commands if command.WhichOneof("kind") == kind]

        async with asyncio.timeout(DEADLINE), self._heard:
            await self._heard.wait_for(lambda: len(those()) >= number)
        return those()[number - 1]

    async def closed(self) -> None:
        """Returns when the agent has ended the stream."""
        await within(asyncio.gather(self._reader, return_exceptions=True))

    async def _read(self) -> None:
        while isinstance(response := await self.call.read(), n.AttachResponse):
            async with self._heard:
                self.responses.append(response)
                self.commands.extend(response.commands)
                self._heard.notify_all()


def directory(*peers: f.PeerDirectory.Peer) -> f.PeerDirectory:
    return f.PeerDirectory(peers=peers, topology_revision=1)


def fragment(run: str, cluster: str, steps: Iterable[m.Step] = (), epoch: int = 1) -> m.Fragment:
    return m.Fragment(
        namespace="default",
        run=run,
        cluster=cluster,
        epoch=epoch,
        revision=1,
        epochs={cluster: epoch},
        steps=steps,
        workflow="w",
        durability="process",
    )
