"""What goes between two processes over loopback: `python -m bdw_fed.perf.sockets NAME …`, called as `floor` is.

tls, plain: the floors of a transfer. One process sends a file over a blocking socket, with TLS in pieces of 256 KiB or
without it by sendfile; the other receives it, makes its BLAKE3 and writes it. stores: the data server of one node and
the transfer client of another, and nothing else of a federation, with many units of 10 KB.

The sender is forked before any thread exists. Samples are in ms a GiB, or a unit.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from bdw_fed.perf.base import PerfError
from bdw_fed.perf.floor import write_csv
from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.arrival import Arrived
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.server import DataServer
from wire.digests import bytes_digest
from wire.identity import Credentials, Identity, Role, server_name, ssl_client_context, ssl_server_context
from wire.identity.authority import Authority

MODULE = "bdw_fed.perf.sockets"
SMALL_BYTES = 10_000
_BUFFER_BYTES = 256 << 10
_SENDER = Identity(Role.NODE, "one/n1")
_RECEIVER = Identity(Role.NODE, "two/n1")


def _main(name: str, size: int, repetitions: int, place: Path) -> list[float]:
    authority = Authority.create(place / "ca")
    sends = authority.issue(_SENDER, place / "sender")
    receives = authority.issue(_RECEIVER, place / "receiver")
    if name == "stores":
        with _child(lambda told: asyncio.run(_serve(place / "there", size, sends, told))) as address:
            return asyncio.run(_fetch(place / "here", size, repetitions, receives, address))
    file = place / "file"
    write_csv(file, size)
    secure = name == "tls"
    context = ssl_server_context(sends) if secure else None
    with _child(lambda told: _send(file, repetitions + 1, context, told)) as address:
        context = ssl_client_context(receives) if secure else None
        samples = [_receive(address, context, place / "received", file.stat().st_size) for _ in range(repetitions + 1)]
    return [sample * 1024 / size for sample in samples[1:]]


@contextmanager
def _child(work: Callable[[int], None]) -> Iterator[str]:
    """A process that does `work`, and the address that it says on the descriptor that it is given."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(writes)
        finally:
            os._exit(1)
    os.close(writes)
    try:
        with os.fdopen(reads) as said:
            address = said.readline().strip()
        if not address:
            raise PerfError("the sending process could not start")
        yield address
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# ------------------------------------------------------------------------------------------------ the floors


def _send(file: Path, times: int, context: ssl.SSLContext | None, told: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    os.write(told, f"127.0.0.1:{listening.getsockname()[1]}\n".encode())
    for _ in range(times):
        taken, _ = listening.accept()
        with file.open("rb", buffering=0) as source:
            if context is None:
                offset, size = 0, file.stat().st_size
                while offset < size:
                    offset += os.sendfile(taken.fileno(), source.fileno(), offset, size - offset)
            else:
                taken = context.wrap_socket(taken, server_side=True)
                buffer = memoryview(bytearray(_BUFFER_BYTES))
                while count := source.readinto(buffer):
                    taken.sendall(buffer[:count])
        taken.close()
    signal.pause()


def _receive(address: str, context: ssl.SSLContext | None, file: Path, size: int) -> float:
    """ms for one file."""
    host, _, port = address.partition(":")
    began = time.perf_counter()
    sock = socket.create_connection((host, int(port)))
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname=server_name(_SENDER))
    hasher = blake3()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with file.open("wb", buffering=0) as received:
        while size:
            count = sock.recv_into(buffer)
            if not count:
                raise PerfError("the floor's sender ended early")
            hasher.update(buffer[:count])
            received.write(buffer[:count])
            size -= count
    hasher.digest()
    sock.close()
    took = (time.perf_counter() - began) * 1000
    file.unlink()
    return took


# ------------------------------------------------------------------------------------------------ the stores


def _key(number: int) -> UnitKey:
    return UnitKey("default", "perf", number.to_bytes(16, "big"))


def _content(number: int) -> bytes:
    return b"%08d" % number * (SMALL_BYTES // 8)


async def _serve(root: Path, size: int, credentials: Credentials, told: int) -> None:
    store = DiskStore(root)
    client = TransferClient(ssl_client_context(credentials))
    readers = Readers(_SENDER.cluster, credentials.ca)
    run = node_pb2.RunMembers(namespace="default", run="perf", clusters=[_RECEIVER.cluster])
    readers.told(node_pb2.Members(runs=[run]))
    server = DataServer(store, Arrivals(store, client, lambda _: None), ssl_server_context(credentials), readers)
    port = await server.start("127.0.0.1", 0)
    for number in range(size):
        store.put(_key(number), _content(number))
    store.flush()
    os.write(told, f"127.0.0.1:{port}\n".encode())
    await asyncio.Event().wait()


async def _fetch(root: Path, size: int, repetitions: int, credentials: Credentials, address: str) -> list[float]:
    store = DiskStore(root)
    told: asyncio.Queue[Arrived] = asyncio.Queue()
    wanted = [(number, bytes_digest(_content(number))) for number in range(size)]
    samples = []
    async with TransferClient(ssl_client_context(credentials)) as client:
        arrivals = Arrivals(store, client, told.put_nowait)
        for _ in range(repetitions + 1):
            began = time.perf_counter()
            for number, digest in wanted:
                source = Source(_key(number), address, server_name(_SENDER))
                arrivals.fetch(_key(number), digest, SMALL_BYTES, [source])
            for _ in wanted:
                arrived = await told.get()
                if arrived.error:
                    raise PerfError(arrived.error)
            samples.append((time.perf_counter() - began) * 1000 / size)
            await store.end_run("default", "perf", [])
        await arrivals.close()
    await store.close()
    return samples[1:]


if __name__ == "__main__":
    _name, _size, _repetitions, _place, _ = sys.argv[1:]
    print(json.dumps(_main(_name, int(_size), int(_repetitions), Path(_place))))
