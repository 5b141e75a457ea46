"""A warm interpreter as the daemon sees it: one process that calls a function for one task after another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster_agent.runtimes.base import Job, Outcome, Sink, Worker, WorkerSpec, last_bytes
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.ending import GRACE_SECONDS, describe_exit, timed_out, with_limit
from cluster_agent.runtimes.process.link import Child, SpawnerLink
from cluster_agent.runtimes.process.spawner import MARK
from cluster_agent.runtimes.process.streams import LastWords, Streams, Tee

_LENGTH = struct.Struct("<I")


class PythonWorker(Worker):
    """Made by `start`. Memory is limited to what the spec says beyond the interpreter with its modules."""

    def __init__(
        self, child: Child, connection: socket.socket, streams: Streams, spec: WorkerSpec, env: Mapping[str, str]
    ) -> None:
        self.gone = asyncio.Event()
        self._child = child
        self._connection = connection
        self._streams = streams
        self._spec = spec
        self._env = dict(env)
        self._usable = True
        self._stopping = False
        child.exit.add_done_callback(lambda _: self.gone.set())

    @classmethod
    async def start(cls, link: SpawnerLink, spec: WorkerSpec, env: Mapping[str, str]) -> PythonWorker:
        """Fork an interpreter and import the step's module; StartError with the module's own words."""
        words = LastWords()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        streams = Streams(words)
        environment = {**env, **dict(spec.env)}
        child = link.start({"function": spec.function, "env": environment}, [*streams.child_ends, theirs.detach()])
        worker = cls(child, ours, streams, spec, environment)
        try:
            worker.pid = await child.pid
            warm = {
                "op": "warm",
                "function": spec.function,
                "bundle": str(spec.bundle) if spec.bundle else "",
                "memory": spec.memory,
                "disk": spec.disk,
            }
            answer = await worker._ask(warm)
        except BaseException as error:
            child.pid.cancel()
            await worker.stop()
            if isinstance(error, OSError):
                raise StartError(f"{spec.function} could not be started: {error}") from None
            raise
        streams.drain()
        if answer is None:
            exited = await child.exit
            streams.drain()
            await worker.stop()
            raise StartError(f"{spec.function}: {describe_exit(exited)} while it was imported", words.text(2))
        if answer["op"] == "failed":
            await worker.stop()
            raise StartError(f"{spec.function}: {answer['message']}", answer["detail"])
        return worker

    @property
    def alive(self) -> bool:
        return self._usable and not self.gone.is_set()

    async def execute(self, job: Job, sink: Sink) -> Outcome:
        words = LastWords()
        self._streams.drain()  # what was said between tasks is nobody's
        self._streams.sink = Tee(sink, words)
        try:
            return await self._execute(job, words)
        except BaseException:
            self._usable = False
            await self.stop()
            raise
        finally:
            self._streams.drain()
            self._streams.sink = LastWords()

    async def stop(self) -> None:
        self._usable = False
        self._connection.close()
        if self._child.pid.done() and not self._child.pid.cancelled() and self._child.pid.exception() is None:
            self._child.send_signal(signal.SIGKILL)
            await asyncio.shield(self._child.exit)
        self._streams.close()

    async def _execute(self, job: Job, words: LastWords) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()
        order = {
            "op": "run",
            "directory": str(job.directory),
            "env": {**self._env, **job.env, MARK: str(self._child.number)},
            "inputs": {
                port: str(at) if isinstance(at, Path) else [str(path) for path in at] for port, at in job.inputs.items()
            },
            "outputs": {port: str(path) for port, path in job.outputs.items()},
            "parameters": dict(job.parameters),
        }
        try:
            async with asyncio.timeout(job.timeout or None):
                answer = await self._ask(order)
        except TimeoutError:
            self._usable = False
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await asyncio.shield(self._child.exit)
            await self.stop()
            return timed_out(job.timeout, loop.time() - began, words)
        if answer is None:
            self._usable = False
            exited = await asyncio.shield(self._child.exit)
            self._streams.drain()
            kind = "lost" if exited.signal == signal.SIGKILL else "exit"
            said = last_bytes(words.text(2))
            return Outcome(kind, f"the worker {describe_exit(exited)}", said, loop.time() - began, exited.peak_memory)
        if answer["op"] == "done":
            return Outcome(seconds=answer["seconds"], peak_memory=answer["peak_memory"])
        if answer["kind"] == "memory":
            self._usable = False
        message = with_limit(answer["kind"], answer["message"], self._spec)
        return Outcome(answer["kind"], message, answer["detail"], answer["seconds"], answer["peak_memory"])

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """The worker's answer; None if it died."""
        loop = asyncio.get_running_loop()
        body = json.dumps(message).encode()
        try:
            await loop.sock_sendall(self._connection, _LENGTH.pack(len(body)) + body)
            head = await self._exactly(_LENGTH.size)
            told = await self._exactly(_LENGTH.unpack(head)[0]) if head else None
        except (ConnectionError, BrokenPipeError):
            return None
        answer: dict[str, Any] | None = json.loads(told) if told else None
        return answer

    async def _exactly(self, count: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < count:
            piece = await loop.sock_recv(self._connection, count - len(data))
            if not piece:
                return None
            data += piece
        return bytes(data)
