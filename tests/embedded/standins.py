"""Services that do nothing but live, in place of the real ones: what the supervisor is tested with."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bdw_fed.embedded.layout import Layout, Process
from control_plane.store.etcd import embedded as etcd_program
from wire.identity import Credentials
from wire.service import run_service


def run(process: Process, layout: Layout, ready: Callable[[Any], None]) -> None:
    """Live until SIGTERM; a file named as the process in `broken` makes it fail at once."""
    broken = Path(layout.state) / "broken" / process.name
    if broken.exists():
        print(broken.read_text(), file=sys.stderr)
        raise SystemExit(7)

    async def serve(_config: None, ready: Callable[[Any], None], stop: asyncio.Event) -> None:
        with (Path(layout.state) / "starts").open("a") as file:
            file.write(f"{process.name} {os.getpid()}\n")
        ready({"ports": process.ports})
        await stop.wait()
        with (Path(layout.state) / "stops").open("a") as file:
            file.write(f"{process.name}\n")
        if (Path(layout.state) / "stubborn" / process.name).exists():
            threading.Event().wait()

    run_service(serve, None, ready)


def etcd_command(process: Process, layout: Layout) -> list[str]:
    """The real etcd: it is quick to start, and is executed where the others are forked."""
    credentials = Credentials.at(Path(process.credentials))
    config = etcd_program.EtcdConfig(
        state=Path(process.state),
        port=process.ports["clients"],
        certificate=credentials.certificate,
        key=credentials.key,
        ca=credentials.ca,
        durability="process",
    )
    etcd_program.prepare(config)
    return etcd_program.command(config)
