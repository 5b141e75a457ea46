"""How a service of ours lives as a process: it starts, says that it is ready, and stops in order when told to.

The same few lines run the hub, an agent and a node daemon, whether a service unit, a container or the embedded
federation started them. What a service has in memory once it is ready stays until it ends; the garbage collector is
told not to look at it, because to look at all modules takes a tenth of a second in which nobody is answered. It looks
seldom at the rest, too: most of what a service allocates is tasks and units that live for a run, and hardly any of it
is a cycle.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from wire.health import Health

C = TypeVar("C")
R = TypeVar("R")

_GARBAGE_AFTER = (20_000, 20, 20)
_FILES = 65_536

Serve = Callable[[C, Callable[[R], None], asyncio.Event], Awaitable[None]]


def run_service(
    serve: Serve[C, R],
    config: C,
    ready: Callable[[R], None],
    listen_health: str = "",
    metrics: Callable[[], str] | None = None,
) -> None:
    """Run `serve(config, ready, stop)` until SIGTERM or SIGINT sets `stop`, and it has returned.

    With `listen_health` ("host:port") it tells there whether it lives and serves, and `metrics`; see `wire.health`.
    """
    health = Health(metrics)

    def started(addresses: R) -> None:
        gc.freeze()
        gc.set_threshold(*_GARBAGE_AFTER)
        health.state = "ready"
        ready(addresses)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def told_to_stop() -> None:
            health.state = "stopping"
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told_to_stop)
        async with AsyncExitStack() as stack:
            if listen_health:
                await stack.enter_async_context(health.served(listen_health))
            await serve(config, started, stop)

    asyncio.run(main())


def allow_many_files() -> None:
    """Raise this process's limit: each connection is a file, also one of who only wants to use them up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
