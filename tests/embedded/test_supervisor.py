"""The supervisor with real processes (whose services are stand-ins): it starts, keeps and stops all of them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bdw_fed.embedded import control, linux
from bdw_fed.embedded.errors import ClashError, NotUpError, StartError
from bdw_fed.embedded.layout import read_layout
from bdw_fed.embedded.topologies import choose

HERE = Path(__file__).parent
PATIENCE = 20.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE} s"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _standins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def start(state: Path) -> control.Started:
    return control.start(state, lambda: choose(None, state.parent), services="standins", stop_seconds=0.5)


@contextmanager
def up(state: Path) -> Iterator[control.Running]:
    """A federation of stand-ins, stopped at the end."""
    start(state)
    try:
        yield look(state)
    finally:
        if control.look(state):
            control.stop(state)


def look(state: Path) -> control.Running:
    running = control.look(state)
    assert running is not None
    return running


def pids(running: control.Running) -> dict[str, int]:
    return {process["name"]: process["pid"] for process in running.processes}


NAMES = [
    "etcd",
    "hub",
    *(f"agent-{cluster}" for cluster in ("edge1", "edge2", "cloud")),
    *(f"node-{cluster}.n1" for cluster in ("edge1", "edge2", "cloud")),
]


def test_all_processes_of_the_topology_are_started_and_stopped_in_order(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        assert [process["name"] for process in running.processes] == NAMES
        assert all(process["state"] == "ready" for process in running.processes)
        started = [(process["pid"], process["start_time"]) for process in running.processes]
        control.stop(state)
        assert not any(linux.is_running(*one) for one in started)
    stopped = (state / "stops").read_text().split()
    assert sorted(stopped[:3]) == sorted(name for name in NAMES if name.startswith("node"))
    assert sorted(stopped[3:6]) == sorted(name for name in NAMES if name.startswith("agent"))
    assert stopped[6:] == ["hub"]
    with pytest.raises(NotUpError):
        control.stop(state)


def test_whatever_is_killed_is_started_again_with_its_ports(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        before = pids(running)
        addresses = {process["name"]: process["addresses"] for process in running.processes}
        for name in ("etcd", "hub", "agent-edge1", "node-cloud.n1"):
            os.kill(before[name], signal.SIGKILL)

        def again() -> bool:
            now = look(state)
            return now.ready and all(pids(now)[name] != before[name] for name in ("etcd", "hub", "agent-edge1"))

        eventually(again, "the start of what was killed")
        after = look(state)
        assert {process["name"]: process["addresses"] for process in after.processes} == addresses
        untouched = set(NAMES) - {"etcd", "hub", "agent-edge1", "node-cloud.n1"}
        assert {name: pids(after)[name] for name in untouched} == {name: before[name] for name in untouched}


def test_nothing_outlives_a_killed_supervisor_and_the_next_up_is_free(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        handles = [os.pidfd_open(pid) for pid in pids(running).values()]
        os.kill(running.pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        for handle in handles:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), "a process outlives its supervisor"
            os.close(handle)
        assert control.look(state) is None
    with up(state) as again:
        assert [process["addresses"] for process in again.processes] == [
            process["addresses"] for process in running.processes
        ]


def test_two_ups_on_one_state_clash(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        with pytest.raises(ClashError, match="another supervisor holds"):
            start(state)
        assert pids(look(state)) == pids(running)


def test_a_process_that_cannot_start_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "broken").mkdir(parents=True)
    (state / "broken" / "agent-edge2").write_text("the disk is full of cats")
    with pytest.raises(StartError, match=r"(?s)agent-edge2 does not start \(exit code 1\).*full of cats"):
        start(state)
    assert control.look(state) is None
    started = [line.split() for line in (state / "starts").read_text().splitlines()]
    assert not any(linux.start_time(int(pid)) for _, pid in started)


def test_a_process_that_does_not_start_is_tried_again_with_growing_pauses_while_others_live(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        (state / "broken").mkdir()
        (state / "broken" / "hub").write_text("not today")
        os.kill(pids(running)["hub"], signal.SIGKILL)

        def starts(name: str) -> int:
            return next(process["starts"] for process in look(state).processes if process["name"] == name)

        eventually(lambda: starts("hub") >= 4, "the fourth start")
        assert starts("etcd") == 1
        (state / "broken" / "hub").unlink()
        eventually(lambda: look(state).ready, "readiness, once it can start")


def test_a_fork_holds_nothing_of_the_supervisors(tmp_path: Path) -> None:
    """Neither its lock, which must go with it, nor other processes' pipes."""
    state = tmp_path / "state"
    with up(state) as running:
        for name, pid in pids(running).items():
            links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()]
            assert not [link for link in links if "supervisor" in link], name
            assert not [link for link in links if link.startswith("anon_inode:[pidfd")], name


def test_ports_are_kept_unless_somebody_else_has_taken_them(tmp_path: Path) -> None:
    import socket

    state = tmp_path / "state"
    with up(state):
        pass
    first = read_layout(state)
    assert first is not None
    with socket.create_server(("127.0.0.1", first.one("hub").ports["api"])), up(state):
        second = read_layout(state)
    assert second is not None
    assert second.one("hub").ports != first.one("hub").ports
    assert second.one("etcd").ports == first.one("etcd").ports


def test_who_does_not_stop_is_killed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state) as running:
        (state / "stubborn").mkdir()
        (state / "stubborn" / "node-edge1.n1").touch()
        (state / "stubborn" / "hub").touch()
        layout = read_layout(state)
        assert layout is not None
        began = time.monotonic()
        control.stop(state)
        assert time.monotonic() - began >= 2 * layout.stop_seconds
        assert not any(linux.is_running(process["pid"], process["start_time"]) for process in running.processes)


def test_in_the_foreground_all_ends_with_the_command_however_it_ends(tmp_path: Path) -> None:
    state = tmp_path / "state"
    script = (
        "import sys; from pathlib import Path; from bdw_fed.embedded import control;"
        "from bdw_fed.embedded.topologies import choose;"
        f"state = Path({str(state)!r});"
        "started = control.start(state, lambda: choose(None, state.parent), services='standins', stay=True);"
        "print('up', flush=True); started.supervisor.wait()"
    )
    command = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert command.stdout
    with command.stdout:
        assert command.stdout.readline() == b"up\n"
    running = look(state)
    command.kill()
    command.wait()
    assert linux.wait_for_end(running.pid, running.started, PATIENCE)
    for process in running.processes:
        assert linux.wait_for_end(process["pid"], process["start_time"], PATIENCE)
    assert "hub" in (state / "stops").read_text(), "they were stopped in order, not killed"


def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with up(state):
        assert state.stat().st_mode & 0o077 == 0
        assert (state / "ca").stat().st_mode & 0o077 == 0
        for key in state.rglob("*key.pem"):
            assert key.stat().st_mode & 0o077 == 0
        profile = json.loads((state / "profile.json").read_text())
        assert (state / profile["credentials"] / "cert.pem").is_file()
