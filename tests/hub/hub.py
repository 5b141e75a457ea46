"""A real hub in this process: real etcd, real gRPC over mutual TLS, and clients for people and agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.access.tokens import Issuer
from control_plane.config import HubConfig
from control_plane.server import serve
from control_plane.store.etcd.client import Tls
from tests.fixtures.ports import free_port
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials
from wire.identity.authority import Authority

SECONDS = 20.0
T = TypeVar("T")


@dataclass
class Members:
    """An authority, and credentials for whoever is asked for."""

    directory: Path
    authority: Authority

    @classmethod
    def create(cls, directory: Path) -> Members:
        return cls(directory, Authority.create(directory / "authority"))

    def credentials(self, role: Role, name: str) -> Credentials:
        place = self.directory / role / name
        if not place.exists():
            self.authority.issue(Identity(role, name), place)
        return Credentials.load(place)

    @asynccontextmanager
    async def channel(
        self, address: str, role: Role, name: str, shown: Credentials | None = None
    ) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to the hub as this member, or as who it is by the credentials that are `shown`."""
        credentials = grpc_channel_credentials(shown or self.credentials(role, name))
        options = channel_options(Identity(Role.HUB, "hub"))
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            yield channel


class RunningHub:
    """A hub that can be stopped, killed as far as a task can be, and started again on the same address and etcd."""

    def __init__(self, members: Members, etcd: str, tls: Tls, state: Path, heartbeat: float = 0.3) -> None:
        assert tls.certificate is not None
        assert tls.key is not None
        self.members = members
        self.address = f"127.0.0.1:{free_port()}"
        self.join_address = f"127.0.0.1:{free_port()}"
        self.authority: Path | None = members.directory / "authority"
        self.certificate_life, self.certificate_grace = 3600.0, 600.0
        self._etcd = etcd
        self._tls = Credentials(tls.certificate, tls.key, tls.ca)
        self._state = state
        self._heartbeat = heartbeat
        self.keep_ended = 86400.0
        self.lease = 6.0
        self.admins = ("ada",)
        self.audit = state / "audit.jsonl"
        self.listen_users = ""
        self.issuer: Issuer | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def beside(self) -> RunningHub:
        """Another hub on the same etcd."""
        tls = Tls(self._tls.ca, self._tls.certificate, self._tls.key)
        return RunningHub(self.members, self._etcd, tls, self._state.with_name("beside"), self._heartbeat)

    async def start(self) -> None:
        self._stop = asyncio.Event()
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        config = HubConfig(
            state=self._state,
            etcd=[self._etcd],
            etcd_credentials=self._tls,
            credentials=self.members.credentials(Role.HUB, "hub"),
            listen=self.address,
            heartbeat=self._heartbeat,
            lease=self.lease,
            keep_ended=self.keep_ended,
            admins=self.admins,
            audit=self.audit,
            listen_users=self.listen_users,
            issuer=self.issuer,
            authority=self.authority,
            listen_join=self.join_address if self.authority else "",
            certificate_life=self.certificate_life,
            certificate_grace=self.certificate_grace,
        )
        self._task = asyncio.create_task(serve(config, ready.set_result, self._stop))
        await asyncio.wait([self._task, ready], timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        assert ready.result() == self.address

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, SECONDS)
            self._task = None

    async def crash(self) -> None:
        """End it without telling it to stop."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def __aenter__(self) -> RunningHub:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @asynccontextmanager
    async def person(self, name: str = "ada") -> AsyncIterator[ControlPlaneServiceStub]:
        """The people's service, as a user."""
        async with self.members.channel(self.address, Role.USER, name) as channel:
            yield ControlPlaneServiceStub(channel)


async def asked_until(ask: Callable[[], Awaitable[T]], true: Callable[[T], bool]) -> T:
    """Ask for something that nobody tells of until the answer is as it should be; the answer.

    With a pause between, as the hub that is asked is in this process and has other things to do.
    """
    async with asyncio.timeout(SECONDS):
        while not true(answer := await ask()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)
    return answer


async def apply(person: ControlPlaneServiceStub, text: str, **more: object) -> cp.ApplyResponse:
    """Apply YAML text as one document list."""
    request = cp.ApplyRequest(namespace="default", documents=[cp.Document(file="all.yaml", line=1, yaml=text)], **more)  # type: ignore[arg-type]
    response: cp.ApplyResponse = await person.Apply(request, timeout=SECONDS)
    return response
