"""A service tells the truth about itself: starting, serving, stopping; and who asks nonsense does no harm."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.ports import free_port
from wire.health import Health

SERVICE = """
import asyncio, sys
from pathlib import Path
from wire.service import run_service

async def serve(gates, ready, stop):
    async def opened(name):
        while not (gates / name).exists():
            await asyncio.sleep(0.01)
    print("started", flush=True)
    await opened("ready")
    ready(None)
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await opened("end")

run_service(serve, Path(sys.argv[1]), lambda _: None, sys.argv[2])
"""


def asked(address: str, path: str) -> tuple[int, str]:
    """Status and words of an answer."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


@contextmanager
def running(gates: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(gates), address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_service_is_ready_from_when_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with running(tmp_path, address) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        assert asked(address, "/livez") == (200, "alive")
        assert asked(address, "/readyz") == (503, "starting")
        (tmp_path / "ready").touch()
        assert process.stdout.readline() == "ready\n"
        assert asked(address, "/readyz") == (200, "ready")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        assert asked(address, "/readyz") == (503, "stopping")
        assert asked(address, "/livez") == (200, "alive")
        (tmp_path / "end").touch()
        assert process.wait(timeout=20) == 0


async def test_nothing_else_is_told() -> None:
    async with Health().served("127.0.0.1:0") as address:
        assert (await asyncio.to_thread(asked, address, "/metrics"))[0] == 404


@pytest.mark.parametrize("said", [b"", b"\0" * 20_000, b"GET\r\n\r\n", b"POST /livez HTTP/1.1\r\n\r\n"])
async def test_nonsense_ends_that_connection_and_no_other(said: bytes) -> None:
    async with Health().served("127.0.0.1:0") as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        writer.write_eof()
        assert b"200" not in await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert await asyncio.to_thread(asked, address, "/livez") == (200, "alive")


async def test_an_address_that_is_taken_is_told() -> None:
    async with Health().served("127.0.0.1:0") as address:
        with pytest.raises(OSError, match="address"):
            async with Health().served(address):
                pass
