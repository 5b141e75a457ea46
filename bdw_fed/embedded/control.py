"""A federation on this machine seen from outside: start it, stop it, look at it.

`start` does what can be done while the supervisor imports: it reads the topology, chooses ports and issues
certificates, then hands the layout over. The topology is applied as soon as the hub serves, and the federation is
ready when the hub itself says that all agents and nodes are.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.embedded import linux
from bdw_fed.embedded.errors import ClashError, EmbeddedError, NotUpError, StartError
from bdw_fed.embedded.layout import Layout, lay_out, ports_of, read_layout
from bdw_fed.embedded.supervisor import SERVICES, STATE_FILE

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient
    from bdw_fed.embedded.topologies import Chosen

SUPERVISOR = "bdw_fed.embedded.supervisor"
START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_GIVE_UP_AFTER = 5  # ends in a row of a process that has not been ready yet
_ASK_AGAIN = 0.03
_LOG_END = 3000


@dataclass(frozen=True)
class Running:
    """A supervisor that runs: its pid and start time, and what it says of its processes."""

    state: Path
    pid: int
    started: int
    ready: bool
    processes: list[dict[str, Any]]


def look(state: Path) -> Running | None:
    """The supervisor of a state directory; None if none runs."""
    try:
        content = json.loads((state / STATE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not linux.is_running(content["pid"], content["start_time"]):
        return None
    return Running(state, content["pid"], content["start_time"], content["ready"], content["processes"])


@dataclass(frozen=True)
class Started:
    """What `start` has done: the layout, how long it took (seconds), and the supervisor, if it stays with us."""

    layout: Layout
    seconds: float
    supervisor: subprocess.Popen[bytes] | None


def start(
    state: Path,
    choose: Callable[[], Chosen],
    *,
    durability: str = "process",
    heartbeat: float = 1.0,
    stay: bool = False,
    stop_seconds: float = 8.0,
    services: str = SERVICES,
    settle: Callable[[Path, Chosen, float], None] | None = None,
) -> Started:
    """Start a federation in `state` and wait until it is ready.

    `choose` gives the topology (called while the supervisor imports). With `stay` the supervisor ends with this
    process. Raises ClashError, StartError, ProblemError; what was started is stopped then.
    """
    began = time.monotonic()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "logs").mkdir(mode=0o700, exist_ok=True)
    starting = _Starting(state, services, stay, began + START_SECONDS)
    try:
        chosen = choose()
        kept = read_layout(state)
        layout = lay_out(
            state,
            clusters=chosen.clusters,
            nodes=chosen.nodes,
            relays=chosen.relays,
            data_root=chosen.data_root,
            durability=durability,
            topology=chosen.digest,
            heartbeat=heartbeat,
            stop_seconds=stop_seconds,
            kept_ports=ports_of(kept) if kept else {},
        )
        starting.await_lock()
        _prepare(layout)
        starting.hand_over(layout)
        if settle:
            import bdw_fed.client.blocking  # noqa: F401 - while the processes start; `settle` will need it
        starting.await_processes(layout, until="hub" if settle else None)
        if settle:
            settle(state, placed(chosen, layout), began + START_SECONDS)
    except BaseException:
        starting.abandon()
        raise
    finally:
        starting.close()
    return Started(layout, time.monotonic() - began, starting.process if stay else None)


class _Starting:
    """A supervisor that is being started: it imports, holds the lock, gets its layout, and tells what happens."""

    def __init__(self, state: Path, services: str, stay: bool, deadline: float) -> None:
        self._state = state
        self._deadline = deadline
        self._pid = self._started = 0
        log = os.open(state / "logs" / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "bdw_fed.embedded.supervisor",
                    str(state),
                    services,
                    "stay" if stay else "leave",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        assert self.process.stdin
        assert self.process.stdout
        self._stdin = self.process.stdin
        self._stdout = self.process.stdout
        self._words = self._heard()
        if not stay:
            self.process.wait()  # it has forked the supervisor, which is nobody's child

    def await_lock(self) -> None:
        """Until it holds the state directory. ClashError if another one does."""
        word = next(self._words, None)
        if word is None:
            raise StartError(f"the supervisor does not start.\n{_tail(self._state / 'logs/supervisor.log')}")
        if word["state"] == "clash":
            raise ClashError(
                f"another supervisor holds {self._state}: it runs, or is just being started or stopped. "
                "Wait for it, or choose another directory with --state"
            )
        self._pid, self._started = word["pid"], word["start_time"]

    def hand_over(self, layout: Layout) -> None:
        """Give it what it is to run."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `await_processes` will say so
            self._stdin.write(layout.to_json().encode())
            self._stdin.close()

    def await_processes(self, layout: Layout, until: str | None) -> None:
        """Until all processes (or the one named `until`) have said that they are ready."""
        for word in self._words:
            if word["state"] == "ready" and word.get("process") in (None, until):
                return
            if word["state"] == "ended" and word["in_a_row"] >= _GIVE_UP_AFTER:
                name = word["process"]
                log = next(Path(process.log) for process in layout.processes if process.name == name)
                raise StartError(f"{name} does not start ({word['how']}).\n{_tail(log)}")
        if time.monotonic() < self._deadline:
            raise StartError(f"the supervisor has ended.\n{_tail(self._state / 'logs/supervisor.log')}")
        raise StartError(f"the federation is not ready after {START_SECONDS:g} s; its logs are in {self._state}/logs")

    def abandon(self) -> None:
        """End it, and all that it has started."""
        self.close()
        if self._pid:
            linux.send_signal(self._pid, self._started, signal.SIGTERM)
            linux.wait_for_end(self._pid, self._started, _STOP_SECONDS)
        self.process.wait()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()

    def _heard(self) -> Iterator[dict[str, Any]]:
        """What the supervisor says, until it ends or the deadline has passed."""
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while (left := self._deadline - time.monotonic()) > 0 and selector.select(left):
                data = os.read(self._stdout.fileno(), 65536)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    yield json.loads(line)


def placed(chosen: Chosen, layout: Layout) -> Chosen:
    """What is applied: with the relays' addresses on this machine."""
    from bdw_fed.embedded.topologies import with_relays

    return replace(chosen, text=with_relays(chosen.text, layout.relays()))


def _prepare(layout: Layout) -> None:
    """Directories and certificates."""
    from bdw_fed.client.connection import Profile
    from bdw_fed.embedded.certificates import USER_CREDENTIALS, issue_all
    from bdw_fed.embedded.ports import LOOPBACK

    issue_all(layout)
    for process in layout.processes:
        Path(process.state).mkdir(mode=0o700, exist_ok=True)
    state = Path(layout.state)
    hub = f"{LOOPBACK}:{layout.one('hub').ports['api']}"
    Profile(hub, state / "credentials" / USER_CREDENTIALS, data_root=Path(layout.data_root)).write(state)


def _tail(log: Path) -> str:
    try:
        text = log.read_text(errors="replace")[-_LOG_END:]
    except FileNotFoundError:
        text = "(there is none)"
    return f"The end of {log}:\n{text}"


def apply_and_settle(state: Path, chosen: Chosen, deadline: float) -> None:
    """Apply the topology and wait until the hub sees all of its clusters and nodes ready. StartError if it does not."""
    from bdw_fed.client import Document, SyncClient
    from bdw_fed.client.errors import Unavailable
    from bdw_fed.embedded.former import take_away

    with SyncClient(state=state) as client:
        while True:
            try:
                client.apply([Document(chosen.text, chosen.file)])
                break
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_ASK_AGAIN)
        take_away(client, state, chosen.name)
        while missing := _missing(client, chosen):
            if time.monotonic() > deadline:
                raise StartError(f"not ready: {', '.join(missing)}. Their logs are in {state}/logs")
            time.sleep(_ASK_AGAIN)


def _missing(client: SyncClient, chosen: Chosen) -> list[str]:
    """The clusters and nodes of the topology that the hub does not see ready."""
    from bdw_fed.client.errors import Unavailable

    try:
        clusters = {cluster.name: cluster for cluster in client.status().clusters}
    except Unavailable:
        return ["the hub"]
    missing = [f"cluster {name}" for name in chosen.clusters if name not in clusters or clusters[name].state != "ready"]
    ready = {(cluster.name, node.name) for cluster in clusters.values() for node in cluster.nodes if node.ready}
    missing += [f"node {node.cluster}/{node.name}" for node in chosen.nodes if (node.cluster, node.name) not in ready]
    return missing


def stop(state: Path) -> float:
    """Stop the federation and wait until all of it has ended; returns the seconds it took. Raises NotUpError."""
    running = look(state)
    if running is None:
        raise NotUpError(f"no federation runs in {state}")
    began = time.monotonic()
    linux.send_signal(running.pid, running.started, signal.SIGTERM)
    if not linux.wait_for_end(running.pid, running.started, _STOP_SECONDS):
        linux.send_signal(running.pid, running.started, signal.SIGKILL)  # all others die with it
        if not linux.wait_for_end(running.pid, running.started, 5.0):
            raise EmbeddedError(f"the supervisor (pid {running.pid}) can't be ended")
    for process in running.processes:
        if process["pid"]:
            linux.wait_for_end(process["pid"], process["start_time"], 5.0)
    return time.monotonic() - began
