"""What a transfer over a relay costs against the same one direct: bytes a second, and each process's processor time.

    python benchmarks/relay.py [MEBIBYTES]

The relay is a process of its own, and so is each node's data side. All are on this machine, so the figures say what
processors make of it, not what a line does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bdw_fed.v1 import node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.client import Source, TransferClient
from cluster_agent.data.transfer.partial import PartialFile
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.server import DataServer
from cluster_agent.relay.dialling import Relay, Routes
from cluster_agent.relay.standing import Standing
from wire.identity import Credentials, Identity, Role, server_name, ssl_client_context, ssl_server_context
from wire.identity.authority import Authority

KEY = UnitKey("default", "run", bytes(16))
SERVER = Identity(Role.NODE, "edge1/n1")
ROUNDS = 5


async def give(directory: Path, relay: str, size: int) -> None:
    """Serve one unit, directly and over the relay, until standard input ends."""
    credentials = Credentials.at(directory / "edge1")
    context = ssl_client_context(credentials)
    store = DiskStore(directory / "store1")
    async with TransferClient(context) as client:
        readers = Readers("edge1", credentials.ca)
        run = node_pb2.RunMembers(namespace=KEY.namespace, run=KEY.run, clusters=["edge2"])
        readers.told(node_pb2.Members(runs=[run]))
        server = DataServer(store, Arrivals(store, client, lambda _: None), ssl_server_context(credentials), readers)
        port = await server.start("127.0.0.1", 0)
        content = store.partial / "unit"
        content.write_bytes(os.urandom(1 << 20) * (size >> 20))
        digest = (await store.commit(content, KEY)).digest
        routes = Routes(lambda: context)
        routes.know({"edge2": (Relay("r1", relay),)})
        standing = Standing(routes, lambda _: True, server.let_in)
        standing.know(routes.relays)
        while not standing.at:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print(port, digest.hex(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await standing.close()
        await server.stop()
        await store.close()


async def take(directory: Path, relay: str, size: int, port: int, digest: bytes, pids: dict[str, int]) -> None:
    """Pull the unit again and again, by both ways in turn."""
    context = ssl_client_context(Credentials.at(directory / "edge2"))
    over = Routes(lambda: context)
    over.know({"edge1": (Relay("r1", relay),)})
    source = Source(KEY, f"127.0.0.1:{port}", server_name(SERVER))
    rates: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for way, routes in (("direct", None), ("relay", over)):
            before = {name: seconds(pid) for name, pid in pids.items()}
            async with TransferClient(context, routes) as client:
                path = directory / f"got-{way}-{number}"
                path.mkdir()
                partial = PartialFile(path, digest, size)
                began = time.perf_counter()
                await client.pull(partial, digest, [source])
                rate = size / (time.perf_counter() - began)
                partial.close()
            shutil.rmtree(path)
            rates.setdefault(way, []).append(rate)
            used = {name: f"{seconds(pid) - before[name]:.2f} s" for name, pid in pids.items()}
            print(f"{way:7} {rate / 1e6:7.0f} MB/s   processors: {used}")
    for way, found in rates.items():
        print(f"{way:7} median {sorted(found)[len(found) // 2] / 1e6:.0f} MB/s")


def seconds(pid: int) -> float:
    """Processor seconds of a process so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    if sys.argv[1:2] == ["give"]:
        asyncio.run(give(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
        return
    size = int(sys.argv[1] if sys.argv[1:] else "512") << 20
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = Authority.create(directory / "ca")
        for identity, place in (
            (Identity(Role.RELAY, "r1"), "relay"),
            (SERVER, "edge1"),
            (Identity(Role.NODE, "edge2/n1"), "edge2"),
        ):
            authority.issue(identity, directory / place)
        words = ["relay", "--name", "r1", "--credentials", str(directory / "relay"), "--listen", "127.0.0.1:0"]
        relay = subprocess.Popen([sys.executable, "-m", "bdw_fed.cli", *words], stdout=subprocess.PIPE, text=True)
        assert relay.stdout
        address = relay.stdout.readline().split('"')[5]
        giver = subprocess.Popen(
            [sys.executable, __file__, "give", name, address, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert giver.stdout
        port, digest = giver.stdout.readline().split()
        pids = {"giver": giver.pid, "relay": relay.pid, "taker": os.getpid()}
        try:
            asyncio.run(take(directory, address, size, int(port), bytes.fromhex(digest), pids))
        finally:
            giver.communicate("")
            relay.terminate()
            relay.wait()


if __name__ == "__main__":
    main()
