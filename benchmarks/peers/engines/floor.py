"""What nothing but the unavoidable costs: an asyncio loop, SQLite, and two forked Python processes behind pipes.

The order is that of any engine that keeps its word: the event that a step is done is committed before the next
step is sent. In a chain that is one commit for each step. In a fanout a tick gathers all the results that have arrived,
commits them once, and hands out as many new tasks. No engine in Python with the same durability can be quicker by much.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from engines.base import Keeps, TimedEngine

WORKERS = 2
IN_FLIGHT = 64  # tasks sent to a worker before its first answer
PATIENCE = 10.0  # seconds for a worker to end after its pipe was closed


def add_one(value: int) -> int:
    """The step."""
    return value + 1


def _work(pipe: socket.socket) -> None:
    """A worker's life: run the tasks of each chunk that comes, answer it in one write, end with the pipe."""
    rest = b""
    while chunk := pipe.recv(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        answers = []
        for line in lines:
            task, value = json.loads(line)
            answers.append(json.dumps([task, add_one(value)]).encode() + b"\n")
        pipe.sendall(b"".join(answers))


class _Pipe(asyncio.Protocol):
    """The loop's end of a worker's pipe."""

    def __init__(self, arrived: Callable[[_Pipe, list[tuple[int, int]]], None]) -> None:
        self._arrived = arrived
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, tasks: list[tuple[int, int]]) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(json.dumps(task).encode() + b"\n" for task in tasks))

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._arrived(self, [tuple(json.loads(line)) for line in lines])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Floor(TimedEngine):
    """Commits survive a crash of the process (WAL, not synced at each commit)."""

    distribution = ""
    keeps = Keeps.PROCESS
    steps_run_in = "2 forked processes"
    synchronous = "NORMAL"

    def __init__(self) -> None:
        self._processes: list[multiprocessing.context.ForkProcess] = []
        self._pipes: list[_Pipe] = []
        self._runner = asyncio.Runner()
        self._database: sqlite3.Connection | None = None
        self._arrivals: list[tuple[_Pipe, list[tuple[int, int]]]] = []
        self._tick: Callable[[], None] = lambda: None

    def start(self, state: Path) -> None:
        context = multiprocessing.get_context("fork")
        ends: list[socket.socket] = []
        for _ in range(WORKERS):
            ours, theirs = socket.socketpair()
            process = context.Process(target=_child, args=(theirs, [*ends, ours]))
            process.start()
            self._processes.append(process)
            theirs.close()
            ends.append(ours)
        self._database = sqlite3.connect(state / "log.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(f"PRAGMA synchronous={self.synchronous}")
        self._database.execute(
            "CREATE TABLE events (number INTEGER PRIMARY KEY, kind TEXT, task INTEGER, value INTEGER)"
        )
        self._runner.run(self._connect(ends))

    def stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._runner.run(asyncio.sleep(0))  # a transport closes its socket in the next turn of the loop
        self._runner.close()
        for process in self._processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
        if self._database is not None:
            self._database.close()

    def chain(self, steps: int) -> int:
        return self._runner.run(self._chain(steps))

    def fanout(self, units: int) -> int:
        return self._runner.run(self._fanout(units))

    async def _connect(self, ends: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for end in ends:
            _, pipe = await loop.create_unix_connection(lambda: _Pipe(self._arrived), sock=end)
            self._pipes.append(pipe)

    async def _chain(self, steps: int) -> int:
        finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        pipe = self._pipes[0]
        self._commit("accepted", [(0, 0)])

        def tick() -> None:
            [(_, [(step, value)])] = self._arrivals
            self._arrivals.clear()
            self._commit("done", [(step, value)])
            if step + 1 < steps:
                pipe.send([(step + 1, value)])
            else:
                finished.set_result(value)

        self._tick = tick
        pipe.send([(0, 0)])
        return await finished

    async def _fanout(self, units: int) -> int:
        finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting: Iterator[tuple[int, int]] = ((unit, unit) for unit in range(units))
        done = total = 0
        self._commit("accepted", [(unit, unit) for unit in range(units)])

        def tick() -> None:
            nonlocal done, total
            arrivals = self._arrivals.copy()
            self._arrivals.clear()
            results = [result for _, some in arrivals for result in some]
            self._commit("done", results)
            for pipe, some in arrivals:
                pipe.send(list(islice(waiting, len(some))))
            done += len(results)
            total += sum(value for _, value in results)
            if done == units:
                finished.set_result(total)

        self._tick = tick
        for pipe in self._pipes:
            pipe.send(list(islice(waiting, IN_FLIGHT)))
        return await finished

    def _arrived(self, pipe: _Pipe, results: list[tuple[int, int]]) -> None:
        if not results:
            return
        if not self._arrivals:  # the other pipe's results of this turn of the loop still come into the same tick
            asyncio.get_running_loop().call_soon(self._tick)
        self._arrivals.append((pipe, results))

    def _commit(self, kind: str, events: list[tuple[int, int]]) -> None:
        assert self._database is not None
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(
            "INSERT INTO events (kind, task, value) VALUES (?, ?, ?)", [(kind, *event) for event in events]
        )
        self._database.execute("COMMIT")


class PowerFloor(Floor):
    """Commits survive a loss of power: the log is synced to the disk at each."""

    keeps = Keeps.POWER
    synchronous = "FULL"


def _child(pipe: socket.socket, inherited: list[socket.socket]) -> None:
    for end in inherited:  # a copy that stays open here would keep another worker from seeing its pipe's end
        end.close()
    _work(pipe)
