"""A scripted agent: speaks the session as the contract says, and does what a test tells it to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Self

import grpc.aio

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from tests.hub.hub import SECONDS, RunningHub
from wire.identity import Credentials, Role
from wire.inventory import inventory_digest
from wire.versions import SESSION, Versions


class FakeAgent:
    """An agent whose durable state is in memory, so that it outlives its connections."""

    def __init__(
        self,
        hub: RunningHub,
        cluster: str,
        *,
        log_id: bytes = b"",
        shown: Credentials | None = None,
        speaks: Versions = SESSION,
    ) -> None:
        self.cluster = cluster
        self.speaks = speaks
        self.log_id = log_id or f"log of {cluster}".encode()
        self.held: dict[tuple[str, str], m.Assignment] = {}
        self.frames: list[f.SessionResponse] = []
        self.peers: f.PeerDirectory | None = None
        self.welcome: f.HubWelcome | None = None
        self.relayed: list[f.PeerRelay] = []
        self.auto_ack = True
        self.answer: Callable[[f.Query], list[f.QueryReply]] | None = None
        self.credits = 0
        self._hub = hub
        self._shown = shown
        self._hub_id = b""
        self._received = 0
        self._next = 1
        self._unacked: dict[int, f.SessionRequest] = {}
        self._stack = AsyncExitStack()
        self._call: grpc.aio.StreamStreamCall[f.SessionRequest, f.SessionResponse] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._beater: asyncio.Task[None] | None = None
        self.beats = True
        self.listens = asyncio.Event()  # cleared: from its next frame on it reads no more
        self.listens.set()
        self.clock_ahead = 0.0
        self.nodes: list[cp.NodeStatus] = []
        self.ended: BaseException | None = None

    @property
    def inventory(self) -> bytes:
        return inventory_digest(
            (each.fragment.namespace, each.fragment.run, each.fragment.epoch, each.desired)
            for each in self.held.values()
        )

    @property
    def unacked(self) -> int:
        return len(self._unacked)

    async def connect(self, *, as_cluster: str = "") -> Self:
        channel = await self._stack.enter_async_context(
            self._hub.members.channel(self._hub.address, Role.AGENT, self.cluster, self._shown)
        )
        self._call = FederationServiceStub(channel).Session(wait_for_ready=True)
        hello = f.AgentHello(
            cluster=as_cluster or self.cluster,
            version="test",
            protocol=self.speaks.newest,
            protocol_min=self.speaks.oldest,
            log_id=self.log_id,
            received=self._received,
            hub_id=self._hub_id,
            inventory=self.inventory,
            gateway_address=f"{self.cluster}.example:7000",
        )
        await self._call.write(f.SessionRequest(hello=hello))
        first = await asyncio.wait_for(self._call.read(), SECONDS)
        assert isinstance(first, f.SessionResponse)
        self.welcome = first.welcome
        self.credits = first.welcome.credits
        if self.welcome.hub_id != self._hub_id:
            self._hub_id, self._received = self.welcome.hub_id, 0
        self._forget(self.welcome.received)
        self.ended = None
        self._reader = asyncio.create_task(self._read())
        for seq in sorted(self._unacked):
            await self._write(self._unacked[seq])
        if self.beats:
            self._beater = asyncio.create_task(self._beat())
        return self

    async def disconnect(self) -> None:
        for task in (self._reader, self._beater):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._call is not None:
            self._call.cancel()
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        self._call = self._reader = None

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.disconnect()

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until something holds."""
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(condition), SECONDS)
            except TimeoutError:
                raise AssertionError(f"{self.cluster} waited in vain {what}; ended: {self.ended!r}") from None

    async def assigned(self, run: str, desired: m.DesiredState.ValueType = m.DESIRED_STATE_RUNNING) -> m.Fragment:
        """Wait until this is wanted; the fragment."""
        name = ("default", run)
        await self.until(lambda: name in self.held and self.held[name].desired == desired, f"for {run} as {desired}")
        return self.held[name].fragment

    async def say(self, **kind: object) -> int:
        """Send a sequenced frame; it is kept until acked."""
        seq, self._next = self._next, self._next + 1
        frame = self._unacked[seq] = f.SessionRequest(seq=seq, **kind)  # type: ignore[arg-type]
        if self._call is not None:
            await self._write(frame)
        return seq

    def forget_acks(self, count: int) -> None:
        """Number on as if so many of the last words had never been said."""
        self._next -= count

    async def say_soft(self, **kind: object) -> None:
        """Send a frame that may be lost."""
        assert self._call is not None
        await self._write(f.SessionRequest(**kind))  # type: ignore[arg-type]

    async def acked(self) -> None:
        """Wait until all that was said is stored."""
        await self.until(lambda: not self._unacked, "for acks")

    async def beat(self, *nodes: cp.NodeStatus) -> None:
        """Say how the nodes are; it is said again with each heartbeat."""
        self.nodes = list(nodes) or self.nodes
        status = cp.ClusterStatus(name=self.cluster, state="ready", version="test", nodes=self.nodes)
        await self.say_soft(heartbeat=f.Heartbeat(status=status, wall_clock=time.time() + self.clock_ahead))

    async def _write(self, frame: f.SessionRequest) -> None:
        async with self._writing:
            if self._call is not None:
                await self._call.write(frame)

    async def stop_beating(self) -> None:
        """Fall silent, with the connection up."""
        if self._beater is not None:
            self._beater.cancel()
            await asyncio.gather(self._beater, return_exceptions=True)

    async def _beat(self) -> None:
        assert self.welcome is not None
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader sees the end, too
            while True:
                await self.beat()
                await asyncio.sleep(self.welcome.heartbeat)

    async def end(
        self,
        fragment: m.Fragment,
        state: m.FragmentState.ValueType = m.FRAGMENT_STATE_SUCCEEDED,
        **more: object,
    ) -> int:
        """Say a fragment's last word."""
        return await self.say(ended=self.status(fragment, state, **more))

    def status(self, fragment: m.Fragment, state: m.FragmentState.ValueType, **more: object) -> m.FragmentStatus:
        return m.FragmentStatus(
            namespace=fragment.namespace,
            run=fragment.run,
            cluster=self.cluster,
            epoch=fragment.epoch,
            state=state,
            **more,  # type: ignore[arg-type]
        )

    async def _read(self) -> None:
        assert self._call is not None
        try:
            while isinstance(frame := await self._call.read(), f.SessionResponse):
                await self._take(frame)
                await self.listens.wait()
            self.ended = EOFError("the hub ended the stream")
        except grpc.aio.AioRpcError as error:
            self.ended = error
        async with self._news:
            self._news.notify_all()

    async def _take(self, frame: f.SessionResponse) -> None:
        assert self._call is not None
        self.frames.append(frame)
        self.credits += frame.credits
        self._forget(frame.ack)
        match frame.WhichOneof("kind"):
            case "assignments":
                self.held = {_name(each): each for each in frame.assignments.assignments}
            case "assign":
                self.held[_name(frame.assign)] = frame.assign
            case "removed":
                self.held.pop((frame.removed.namespace, frame.removed.run), None)
            case "peers":
                self.peers = frame.peers
            case "relay":
                self.relayed.append(frame.relay)
            case "query" if self.answer is not None:
                for reply in self.answer(frame.query):
                    reply.id = frame.query.id
                    await self._write(f.SessionRequest(reply=reply))
        if frame.seq:
            assert frame.seq == self._received + 1
            self._received = frame.seq
            if self.auto_ack:
                await self._write(f.SessionRequest(ack=frame.seq))
        async with self._news:
            self._news.notify_all()

    def _forget(self, number: int) -> None:
        for seq in [seq for seq in self._unacked if seq <= number]:
            del self._unacked[seq]


def _name(assignment: m.Assignment) -> tuple[str, str]:
    return assignment.fragment.namespace, assignment.fragment.run
