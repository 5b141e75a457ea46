"""One service process: starts it, listens for its call, and does what the core of the conversation says.

The program is a child as any other's (see `process.link`), so it ends with all that it has started. It connects to a
socket in its home; whoever connects first is it. What it writes to its standard streams can't be told apart by task: it
goes into the logs of all tasks that are under way.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_agent.runtimes.base import Job, Outcome, Sink, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.process.argv import fill
from cluster_agent.runtimes.process.ending import describe_exit, kind_of_end, program_limit, with_limit
from cluster_agent.runtimes.process.home import Home
from cluster_agent.runtimes.process.link import Child, Exit, Slot, SpawnerLink
from cluster_agent.runtimes.process.streams import LastWords, Streams
from cluster_agent.runtimes.services import messages
from cluster_agent.runtimes.services.coding import CodingError, coding
from cluster_agent.runtimes.services.core import ServiceCore

SOCKET = "BDW_FED_SOCKET"
PROTOCOL = "BDW_FED_PROTOCOL"
SLOTS = "BDW_FED_SLOTS"
Explain = Callable[[Outcome], Awaitable[Outcome]]


async def _as_it_is(outcome: Outcome) -> Outcome:
    return outcome


@dataclass
class _UnderWay:
    """A job that the core knows as a task."""

    sink: Sink
    ended: asyncio.Future[messages.Ended]


class ServiceProcess:
    """Made by `start`. `gone` is set when it is dead, `alive` false as soon as it takes no more tasks."""

    def __init__(self, link: SpawnerLink, spec: WorkerSpec, home: Home, explain: Explain = _as_it_is) -> None:
        """`explain`: what became of its surroundings, if they were what ended it."""
        assert spec.service is not None
        self.gone = asyncio.Event()
        self.spec = spec
        self._link = link
        self._home = home
        self._explain = explain
        self._loop = asyncio.get_running_loop()
        self._core = ServiceCore(spec.service)
        self._coding = coding(spec.service.protocol)
        self._words = LastWords()
        self._streams: Streams | None = None
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._jobs: dict[str, _UnderWay] = {}
        self._server: asyncio.Server | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._slot: Slot | None = None
        self._child: Child | None = None
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str], home: Home, explain: Explain = _as_it_is
    ) -> ServiceProcess:
        """Start the program and wait until it is ready. StartError with its own words; nothing is left then."""
        service = cls(link, spec, home, explain)
        try:
            await service._begin(env)
            await service._up
        except BaseException as error:
            service._up.cancel()
            await service.stop()
            if isinstance(error, (OSError, TemplateError)):
                raise StartError(f"the service could not be started: {error}") from None
            raise
        return service

    @property
    def alive(self) -> bool:
        """Whether it can take another task."""
        return self._core.ready and self._link.alive

    def write(self, stream: int, data: bytes) -> None:
        """What it writes by itself: see Sink."""
        self._words.write(stream, data)
        for job in self._jobs.values():
            job.sink.write(stream, data)

    async def execute(self, job: Job, sink: Sink, *, alone: bool = False) -> messages.Ended:
        """Have a task done. `alone`: while it has no other."""
        task = _task(job)
        under_way = self._jobs[task.id] = _UnderWay(sink, self._loop.create_future())
        try:
            self._handle(messages.Wanted(task, alone))
            return await asyncio.shield(under_way.ended)
        except asyncio.CancelledError:
            self._handle(messages.Unwanted(task.id))
            await asyncio.shield(under_way.ended)
            raise
        finally:
            del self._jobs[task.id]

    async def stop(self) -> None:
        """End it, and wait until it has."""
        if self._child is not None:
            self._handle(messages.Stop())
            await asyncio.shield(self._child.exit)
        if self._ending is not None:
            await asyncio.shield(self._ending)
        await self._close()

    # ------------------------------------------------------------------------------------------------- its start

    async def _begin(self, env: Mapping[str, str]) -> None:
        spec, home = self.spec, self._home
        assert spec.service is not None
        argv = fill(spec.argv, {}, {}, {}, spec.bundle)
        self._server = await self._loop.create_unix_server(lambda: _Conversation(self), str(home.socket))
        own = {
            **env,
            **dict(spec.env),
            "HOME": str(home.root),
            "TMPDIR": str(home.root),
            SOCKET: str(home.socket),
            PROTOCOL: spec.service.protocol,
            SLOTS: str(spec.service.slots),
        }
        self._streams = Streams(self)
        self._slot = self._link.slot(own, self._streams.child_ends)
        self._child = self._slot.execute(argv, {}, str(home.root), program_limit(spec), 0)
        self._child.exit.add_done_callback(self._exited)
        self._handle(messages.Began())

    # ------------------------------------------------------------------------------------------------- the core

    def _handle(self, event: messages.Event) -> None:
        for action in self._core.handle(event, self._loop.time()):
            self._do(action)

    def _do(self, action: messages.Action) -> None:
        match action:
            case messages.Tell(told):
                if self._transport is not None:
                    self._transport.write(self._coding.write(told))
            case messages.Write(ids, stream, data):
                for job in (self._jobs[id] for id in ids if id in self._jobs):
                    job.sink.write(stream, data)
            case messages.Ended():
                self._drain()
                known = self._jobs.get(action.id)
                if known is not None and not known.ended.done():
                    known.ended.set_result(action)
            case messages.Up():
                if not self._up.done():
                    self._up.set_result(None)
            case messages.Failed(message, detail):
                self._drain()
                if not self._up.done():
                    said = detail or last_bytes(self._words.text(2))
                    self._up.set_exception(StartError(f"{self.spec.argv[0]}: {message}", said))
            case messages.Kill():
                if self._child is not None:
                    self._child.send_signal(signal.SIGKILL)
            case messages.WakeAt(at):
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._loop.call_at(at, self._handle, messages.Tick())

    # -------------------------------------------------------------------------------------------- what happens to it

    def called(self, transport: asyncio.Transport) -> bool:
        """Somebody has connected; whether it is the service."""
        if self._transport is not None:
            return False
        self._transport = transport
        return True

    def heard(self, data: bytes) -> None:
        """It has sent this."""
        try:
            for said in self._coding.read(data):
                self._handle(messages.Heard(said))
        except CodingError as error:
            self._handle(messages.Broken(str(error)))
            if self._transport is not None:
                self._transport.abort()

    def hung_up(self) -> None:
        """It has closed the connection."""
        self._handle(messages.HungUp())

    def _exited(self, exit: asyncio.Future[Exit]) -> None:
        self.gone.set()
        self._ending = asyncio.create_task(self._tell_end(exit.result()))

    async def _tell_end(self, exited: Exit) -> None:
        self._drain()
        said = last_bytes(self._words.text(2))
        message = exited.error or f"the service {describe_exit(exited)}"
        kind = kind_of_end(exited, said, self.spec)
        ended = Outcome(kind, with_limit(kind, message, self.spec), said, peak_memory=exited.peak_memory)
        outcome = await self._explain(ended)
        self._handle(messages.Exited(outcome))

    def _drain(self) -> None:
        if self._streams is not None:
            self._streams.drain()

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._slot is not None:
            self._slot.close()
            self._slot = None
        if self._streams is not None:
            self._streams.close()
        await self._home.remove()


class _Conversation(asyncio.Protocol):
    """A connection to the socket."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._is_it = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._is_it = self._service.called(transport)
        if not self._is_it:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_it:
            self._service.heard(data)

    def connection_lost(self, _why: Exception | None) -> None:
        if self._is_it:
            self._service.hung_up()


def _task(job: Job) -> messages.Task:
    env = job.env
    task, attempt = env.get("BDW_FED_TASK", ""), env.get("BDW_FED_ATTEMPT", "0")
    return messages.Task(
        id=f"{task}.{attempt}",
        directory=str(job.directory),
        temporary=env.get("TMPDIR", str(job.directory)),
        inputs={
            port: str(at) if isinstance(at, Path) else [str(path) for path in at] for port, at in job.inputs.items()
        },
        outputs={port: str(path) for port, path in job.outputs.items()},
        parameters=json.loads(json.dumps(dict(job.parameters))),
        timeout=job.timeout,
        task=task,
        attempt=int(attempt),
        run=env.get("BDW_FED_RUN", ""),
        step=env.get("BDW_FED_STEP", ""),
    )
