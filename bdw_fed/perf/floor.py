"""What the machine makes unavoidable, measured in a fresh process: `python -m bdw_fed.perf.floor NAME …`.

chain, fanout: an asyncio loop that commits each event to SQLite (WAL) before it acts upon it, and forked Python
workers behind socket pairs; in a fan-out a turn of the loop commits at once all that has arrived. command: nothing but
posix_spawn and wait, in as many processes as there are workers. pipeline: cat through pipes to a file. fsync: one write
and sync. import: a fresh interpreter that imports what the federation's processes run. What is held against a plain
read of the same bytes calls `read`, in its own process.

A process of its own, because forking one that has gRPC's threads is not safe, and because it should owe nothing to what
was measured before it. The last line that it prints is a JSON list of samples in ms per step, task or call.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bdw_fed.perf.base import PerfError

WORKERS = 2
_IN_FLIGHT = 64  # tasks with a worker before its first answer
_READ_BYTES = 1 << 20
_MODULE = "bdw_fed.perf.floor"
_SECONDS = 600.0


def measured(
    name: str, size: int, repetitions: int, place: Path, *, durability: str = "process", module: str = _MODULE
) -> list[float]:
    """The samples of a floor, one for each repetition, in ms. `place`: a directory on the disk that counts.

    `module` is who measures it, where this one does not.
    """
    with tempfile.TemporaryDirectory(dir=place) as own:
        done = subprocess.run(
            [sys.executable, "-m", module, name, str(size), str(repetitions), own, durability],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise PerfError(f"the floor of {name} could not be measured:\n{done.stderr.strip()}")
    samples: list[float] = json.loads(done.stdout.splitlines()[-1])
    return samples


def measured_here(name: str, size: int, repetitions: int, place: Path, durability: str = "process") -> list[float]:
    """The same in this process, which should have done nothing before and have nothing else to do."""
    if name in ("chain", "fanout"):
        with _Engine(place, durability) as engine:
            run = engine.chain if name == "chain" else engine.fanout
            run(size)
            return [_timed(lambda: run(size)) / size for _ in range(repetitions)]
    calls: dict[str, Callable[[], None]] = {
        "command": lambda: _spawn(size),
        "fsync": lambda: _sync(place, size),
        "import": lambda: _import(size),
    }
    if name == "pipeline":
        write_csv(place / "input", size)
        calls[name] = lambda: _pipe(place)
    once = calls[name]
    once()
    scale = 1024 / size if name == "pipeline" else 1 / size  # ms a GiB, or ms each
    return [_timed(once) * scale for _ in range(repetitions)]


def _timed(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


# ------------------------------------------------------------------------------------- loop, log and workers


class _Engine:
    """The loop, its log, and its workers. Forked before anything else is there."""

    def __init__(self, place: Path, durability: str) -> None:
        self._ends: list[socket.socket] = []
        self._pids: list[int] = []
        for _ in range(WORKERS):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for end in (*self._ends, ours):  # or a sibling would never see its socket end
                    end.close()
                _work(theirs)
                os._exit(0)
            theirs.close()
            self._ends.append(ours)
            self._pids.append(pid)
        self._log = sqlite3.connect(place / "log", isolation_level=None)
        self._log.execute("PRAGMA journal_mode=WAL")
        self._log.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
        self._log.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, kind TEXT, task INTEGER, value INTEGER)")
        self._runner = asyncio.Runner()
        self._pipes = self._runner.run(self._connect())

    def __enter__(self) -> _Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._disconnect())
        self._runner.close()
        for pid in self._pids:
            os.waitpid(pid, 0)
        self._log.close()

    def chain(self, size: int) -> None:
        """Each task is sent when the one before it is in the log."""
        self._runner.run(self._drive(size, 1, self._pipes[:1]))

    def fanout(self, size: int) -> None:
        """Both workers have as much as they like; what arrives together is committed together."""
        self._runner.run(self._drive(size, _IN_FLIGHT, self._pipes))

    async def _connect(self) -> list[_Pipe]:
        loop = asyncio.get_running_loop()
        return [(await loop.create_unix_connection(_Pipe, sock=end))[1] for end in self._ends]

    async def _disconnect(self) -> None:
        for pipe in self._pipes:
            pipe.transport.close()
        await asyncio.sleep(0)  # a transport closes its socket in the next turn of the loop

    async def _drive(self, size: int, in_flight: int, pipes: list[_Pipe]) -> None:
        given = done = total = 0
        wake = asyncio.Event()
        for pipe in pipes:
            pipe.wake = wake
            count = min(in_flight, size - given)
            self._commit("assigned", [(task, task) for task in range(given, given + count)])
            pipe.send((task, task) for task in range(given, given + count))
            given += count
        while done < size:
            await wake.wait()
            wake.clear()
            arrived = [(pipe, pipe.take()) for pipe in pipes]
            self._commit("done", [item for _, items in arrived for item in items])
            for pipe, items in arrived:
                done += len(items)
                total += sum(value for _, value in items)
                count = min(len(items), size - given)
                pipe.send((task, task) for task in range(given, given + count))
                given += count
        if total != size * (size + 1) // 2:
            raise PerfError("the floor's workers returned something else than they should")

    def _commit(self, kind: str, items: list[tuple[int, int]]) -> None:
        self._log.execute("BEGIN IMMEDIATE")
        rows = [(kind, task, value) for task, value in items]
        self._log.executemany("INSERT INTO events (kind, task, value) VALUES (?, ?, ?)", rows)
        self._log.execute("COMMIT")


class _Pipe(asyncio.Protocol):
    """The loop's end of a worker."""

    transport: asyncio.Transport
    wake: asyncio.Event

    def __init__(self) -> None:
        self._rest = b""
        self._items: list[tuple[int, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._items += [tuple(json.loads(line)) for line in lines]
        self.wake.set()

    def take(self) -> list[tuple[int, int]]:
        """What has arrived."""
        items, self._items = self._items, []
        return items

    def send(self, tasks: Iterable[tuple[int, int]]) -> None:
        """Give the worker tasks."""
        self.transport.write(b"".join(json.dumps(task).encode() + b"\n" for task in tasks))


def _work(pipe: socket.socket) -> None:
    rest = b""
    while data := pipe.recv(65536):
        *lines, rest = (rest + data).split(b"\n")
        answers = [(task, value + 1) for task, value in map(json.loads, lines)]
        pipe.sendall(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))


# ------------------------------------------------------------------------------------- single calls


def _spawn(size: int) -> None:
    """Start `true` and wait for it, `size` times in all, from several processes at once."""
    pids = []
    for index in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            for _ in range(index, size, WORKERS):
                os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def _sync(place: Path, size: int) -> None:
    """Write a little and sync it."""
    with (place / "synced").open("ab", buffering=0) as file:
        for _ in range(size):
            file.write(b"x" * 256)
            os.fdatasync(file.fileno())


def write_csv(file: Path, size: int) -> None:
    """About `size` MiB of rows below a header, no two MiB of them alike."""
    row = b"2026-11-22,%07d,JFK,LGA,B6,1017,-4,12,183,0.93\n"
    rows = b"".join(row % number for number in range((1 << 20) // len(row % 0) - 1))
    with file.open("wb") as csv:
        csv.write(b"date,number,from,to,carrier,flight,early,late,minutes,share\n")
        for number in range(size):
            csv.write(row % number)
            csv.write(rows)


def read(file: Path) -> None:
    """Read a file from its beginning to its end, and do nothing with it: from the page cache, if it was read before."""
    buffer = bytearray(_READ_BYTES)
    with file.open("rb", buffering=0) as source:
        while source.readinto(buffer):
            pass


def _pipe(place: Path) -> None:
    subprocess.run(["sh", "-c", "cat input | cat | cat | cat > output"], cwd=place, check=True)
    (place / "output").unlink()


def _import(size: int) -> None:
    for _ in range(size):
        subprocess.run([sys.executable, "-c", "import bdw_fed.embedded.services"], check=True)


if __name__ == "__main__":
    _name, _size, _repetitions, _place, _durability = sys.argv[1:]
    print(json.dumps(measured_here(_name, int(_size), int(_repetitions), Path(_place), _durability)))
