"""An agent without a cluster: to the hub it is one like any other, but its tasks are nothing but time that passes.

    hub ─ assignments ─▶ accepted, progress each second, ended when its tasks' time is over ─▶ hub

It numbers, acks and keeps what it says with the production session, so it takes up after a lost connection where it
stopped; only its state is in memory, and gone with the process.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import grpc.aio

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from cluster_agent.link.backoff import Backoff
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials
from wire.inventory import inventory_digest
from wire.session.core import OutOfOrderError, Session
from wire.versions import SESSION

_PROGRESS_SECONDS = 1.0
_RUNNING = (m.DESIRED_STATE_RUNNING, m.DESIRED_STATE_SUSPENDED)
_Name = tuple[str, str]


@dataclass(frozen=True)
class Work:
    """What a fake agent takes each fragment for: so many tasks of so many seconds each, so many at a time."""

    tasks: int = 100
    seconds: float = 0.1
    slots: int = 4

    @property
    def duration(self) -> float:
        """Seconds until all are done."""
        return self.seconds * -(-self.tasks // self.slots)


class FakeAgent:
    """One of them. `assigned` hears of each run, once, with the time (monotonic) at which its fragment came."""

    def __init__(
        self, cluster: str, hub: str, credentials: Credentials, work: Work, assigned: Callable[[str, float], None]
    ) -> None:
        self._cluster = cluster
        self._hub = hub
        self._credentials = credentials
        self._work = work
        self._assigned = assigned
        self._session: Session[f.SessionRequest] = Session()
        self._log_id = os.urandom(16)
        self._hub_id = b""
        self._held: dict[_Name, m.Assignment] = {}
        self._executing: dict[_Name, asyncio.Task[None]] = {}
        self._soft: list[f.SessionRequest] = []
        self._wake = asyncio.Event()
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Be there, until cancelled."""
        backoff = Backoff()
        options = channel_options(Identity(Role.HUB, "hub"))
        credentials = grpc_channel_credentials(self._credentials)
        try:
            while True:
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, OutOfOrderError, EOFError):
                    async with grpc.aio.secure_channel(self._hub, credentials, options=options) as channel:
                        await self._speak(channel, backoff)
                await backoff.wait()
        finally:
            executing = list(self._executing.values())
            for task in executing:
                task.cancel()
            await asyncio.gather(*executing, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------ the session

    async def _speak(self, channel: grpc.aio.Channel, backoff: Backoff) -> None:
        call: grpc.aio.StreamStreamCall[f.SessionRequest, f.SessionResponse]
        call = FederationServiceStub(channel).Session()
        await call.write(f.SessionRequest(hello=self._hello()))
        first = await call.read()
        if not isinstance(first, f.SessionResponse):
            raise EOFError
        welcome = first.welcome
        if welcome.hub_id != self._hub_id:
            self._hub_id = welcome.hub_id
            self._session.resume_after(0)
        self._session.reconnected(welcome.received, credits=welcome.credits)
        backoff.reset()
        self.connected.set()
        tasks = [
            asyncio.create_task(part)
            for part in (self._read(call), self._write(call), self._beat(welcome.heartbeat or 5.0))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.connected.clear()
            self._session.disconnected()
            self._soft.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hello(self) -> f.AgentHello:
        return f.AgentHello(
            cluster=self._cluster,
            version="fake",
            protocol=SESSION.newest,
            protocol_min=SESSION.oldest,
            log_id=self._log_id,
            received=self._session.received_seq,
            hub_id=self._hub_id,
            inventory=inventory_digest(
                (each.fragment.namespace, each.fragment.run, each.fragment.epoch, each.desired)
                for each in self._held.values()
            ),
            gateway_address=f"{self._cluster}.invalid:7445",
        )

    async def _read(self, call: grpc.aio.StreamStreamCall[f.SessionRequest, f.SessionResponse]) -> None:
        while isinstance(frame := await call.read(), f.SessionResponse):
            if frame.ack:
                self._session.acked(frame.ack)
            if frame.credits:
                self._session.credit(frame.credits)
            if not frame.seq or self._session.received(frame.seq):
                self._take(frame)
            self._wake.set()
        raise EOFError

    async def _write(self, call: grpc.aio.StreamStreamCall[f.SessionRequest, f.SessionResponse]) -> None:
        async for frame in self._frames():
            await call.write(frame)

    async def _frames(self) -> AsyncIterator[f.SessionRequest]:
        while True:
            for seq, kept in self._session.ready():
                frame = f.SessionRequest()
                frame.CopyFrom(kept)
                frame.seq = seq
                yield self._acking(frame)
            while self._soft:
                yield self._acking(self._soft.pop(0))
            if self._session.ack_due is not None:
                yield self._acking(f.SessionRequest())
            await self._wake.wait()
            self._wake.clear()

    def _acking(self, frame: f.SessionRequest) -> f.SessionRequest:
        frame.ack = self._session.received_seq
        self._session.ack_said(frame.ack)
        return frame

    async def _beat(self, seconds: float) -> None:
        while True:
            node = cp.NodeStatus(name="n1", ready=True, cpus=self._work.slots, workers=self._work.slots)
            node.running = self._work.slots if self._executing else 0
            status = cp.ClusterStatus(
                name=self._cluster, state="ready", version="fake", nodes=[node], runs=len(self._executing)
            )
            self._say_soft(f.SessionRequest(heartbeat=f.Heartbeat(status=status, wall_clock=time.time())))
            await asyncio.sleep(seconds)

    def _say(self, frame: f.SessionRequest) -> None:
        self._session.push(frame)
        self._wake.set()

    def _say_soft(self, frame: f.SessionRequest) -> None:
        if self.connected.is_set():
            self._soft.append(frame)
            self._wake.set()

    # ------------------------------------------------------------------------------------------------ what is wanted

    def _take(self, frame: f.SessionResponse) -> None:
        match frame.WhichOneof("kind"):
            case "assignments":
                self._hold_only(frame.assignments.assignments)
            case "assign":
                self._hold(frame.assign)
            case "removed":
                self._drop((frame.removed.namespace, frame.removed.run))
            case _:
                pass

    def _hold_only(self, assignments: Iterable[m.Assignment]) -> None:
        wanted = {_name(each): each for each in assignments}
        for name in self._held.keys() - wanted.keys():
            self._drop(name)
        for each in wanted.values():
            self._hold(each)

    def _hold(self, assignment: m.Assignment) -> None:
        name = _name(assignment)
        known = self._held.get(name)
        self._held[name] = assignment
        if assignment.desired == m.DESIRED_STATE_FORGOTTEN:
            self._drop(name)
        elif assignment.desired not in _RUNNING:
            self._stop(assignment)
        elif known is None or known.fragment.epoch != assignment.fragment.epoch:
            self._assigned(assignment.fragment.run, time.monotonic())
            self._executing[name] = asyncio.create_task(self._execute(assignment.fragment))

    def _drop(self, name: _Name) -> None:
        self._held.pop(name, None)
        if task := self._executing.pop(name, None):
            task.cancel()

    def _stop(self, assignment: m.Assignment) -> None:
        task = self._executing.pop(_name(assignment), None)
        if task is not None and assignment.desired == m.DESIRED_STATE_CANCELLED:
            task.cancel()
            self._say(f.SessionRequest(ended=_status(assignment.fragment, m.FRAGMENT_STATE_CANCELLED, 0)))

    async def _execute(self, fragment: m.Fragment) -> None:
        """Let the time of the fragment's tasks pass."""
        accepted = f.FragmentAccepted(
            namespace=fragment.namespace, run=fragment.run, epoch=fragment.epoch, revision=fragment.revision
        )
        self._say(f.SessionRequest(accepted=accepted))
        begun = time.monotonic()
        while (left := begun + self._work.duration - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _PROGRESS_SECONDS))
            part = min(1.0, (time.monotonic() - begun) / self._work.duration)
            done = int(self._work.tasks * part)
            self._say_soft(f.SessionRequest(progress=_status(fragment, m.FRAGMENT_STATE_RUNNING, done)))
        self._executing.pop((fragment.namespace, fragment.run), None)
        self._say(f.SessionRequest(ended=_status(fragment, m.FRAGMENT_STATE_SUCCEEDED, self._work.tasks)))


def _name(assignment: m.Assignment) -> _Name:
    return assignment.fragment.namespace, assignment.fragment.run


def _status(fragment: m.Fragment, state: m.FragmentState.ValueType, done: int) -> m.FragmentStatus:
    """A fragment's counters, as if all of its tasks were of one step."""
    steps = [step.name for step in fragment.steps if step.definition]
    return m.FragmentStatus(
        namespace=fragment.namespace,
        run=fragment.run,
        cluster=fragment.cluster,
        epoch=fragment.epoch,
        state=state,
        steps=[m.StepProgress(step=step, done=done, closed=state != m.FRAGMENT_STATE_RUNNING) for step in steps],
    )
