"""The defects of the first implementation, each as a run of real processes that ends well and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from federation import HERE, Federation, lay_out
from killing import descendants, stopped
from leftovers import await_nothing_more, held

from wire.digests import bytes_digest

pytestmark = [pytest.mark.slow, pytest.mark.fault]

PATIENCE = 90.0


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation to be broken, warm: what it opens once is open."""
    directory = tmp_path_factory.mktemp("lost")
    topology = lay_out(directory)
    content = yaml.safe_load(topology.read_text())
    # edge1's nodes keep all on their disks, where the tests can harm it, and are always reading what they store.
    clusters = {cluster["name"]: cluster for cluster in content["spec"]["clusters"]}
    clusters["edge1"]["storage"] = {"memory": 0, "scrub": "2s"}
    del clusters["cloud1"]["nodes"][0]["disk"]  # what crosses here is as large as it
    topology.write_text(yaml.safe_dump(content, sort_keys=False))
    started = Federation.start(directory, topology)
    try:
        started.apply(HERE / "federation" / "lost" / "workflow.yaml")
        for workflow in ("heavy", "at-home"):
            run = started.submit(workflow)
            started.call("wait", run)
            started.call("delete", f"run/{run}")
        yield started
    finally:
        started.stop()


@pytest.fixture(autouse=True)
def leaves_nothing(broken: Federation) -> Iterator[None]:
    """Once its runs are deleted, no daemon has more open files, processes or stored files than before."""
    before = held(broken)
    yield
    for run in broken.ask("get", "run"):
        broken.insist("delete", f"run/{run['name']}")
    await_nothing_more(broken, before)


def check(federation: Federation, run: str, pieces: int, directory: Path) -> None:
    """The run ends well, with each piece exactly once and whole."""
    federation.insist("wait", run)
    assert federation.outputs(run, directory / run) == {"list.txt": "".join(f"{index}\n" for index in range(pieces))}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        threading.Event().wait(0.01)


def daemon(federation: Federation, name: str) -> int:
    """The pid of a process by its name, once it lives."""
    found: list[int] = []

    def lives() -> bool:
        found[:] = [each["pid"] for each in federation.supervised()[1] if each["name"] == name and each["pid"]]
        return bool(found)

    until(lives, f"{name} runs")
    return found[0]


def done(federation: Federation, run: str, step: str) -> int:
    fragments = federation.describe(run)["run"].get("fragments", {}).values()
    steps = [told for fragment in fragments for told in fragment.get("steps", []) if told["step"] == step]
    return sum(int(told.get("done", 0)) for told in steps)


def stored(federation: Federation, cluster: str, place: str) -> list[Path]:
    """The files in a part of the stores of a cluster's nodes."""
    return [
        path
        for store in federation.state.glob(f"node-{cluster}.*/store/{place}")
        for path in store.rglob("*")
        if path.is_file()
    ]


def test_a_step_saturated_at_every_slot_for_long(broken: Federation, tmp_path: Path) -> None:
    check(broken, broken.submit("heavy", pieces=120, seconds=0.2), 120, tmp_path)


def test_a_step_with_many_outputs_for_one_input(broken: Federation, tmp_path: Path) -> None:
    check(broken, broken.submit("heavy", pieces=2000, kilobytes=1), 2000, tmp_path)


def test_only_one_candidate_on_the_datas_own_node(broken: Federation, tmp_path: Path) -> None:
    check(broken, broken.submit("at-home", pieces=40), 40, tmp_path)


def test_a_transfer_cut_in_the_middle(broken: Federation, tmp_path: Path) -> None:
    run = broken.submit("heavy", pieces=1, kilobytes=128 << 10)
    until(lambda: bool(stored(broken, "cloud1", "partial")), "bytes cross")
    for node in ("edge1.n1", "edge1.n2"):
        os.kill(daemon(broken, f"node-{node}"), signal.SIGKILL)
    assert stored(broken, "cloud1", "partial"), "all bytes had crossed before the transfer was cut"
    check(broken, run, 1, tmp_path)


@pytest.mark.parametrize("harm", ["a wrong digest", "a peer without the file"])
def test_a_transfer_of_what_is_not_there(broken: Federation, tmp_path: Path, harm: str) -> None:
    """The receiver's node stands still until the file in the sender's store has come to harm."""
    receiver = daemon(broken, "node-cloud1.n1")
    with stopped(receiver):
        run = broken.submit("heavy", pieces=3)
        until(lambda: done(broken, run, "make") == 1, "the units are made")
        contents = stored(broken, "edge1", "content")
        assert len(contents) == 3
        for content in contents:
            if harm == "a wrong digest":
                spoil(content)
            else:
                content.unlink()
    check(broken, run, 3, tmp_path)


def test_what_a_disk_has_spoilt_is_made_again_before_anybody_asks_for_it(broken: Federation, tmp_path: Path) -> None:
    """A daemon that starts has proven nothing of what it finds: its scrubber reads it."""
    with stopped(daemon(broken, "node-cloud1.n1")):
        run = broken.submit("heavy", pieces=3)
        until(lambda: done(broken, run, "make") == 1, "the units are made")
        contents = stored(broken, "edge1", "content")
        assert len(contents) == 3
        for content in contents:
            spoil(content)
        for node in ("edge1.n1", "edge1.n2"):
            os.kill(daemon(broken, f"node-{node}"), signal.SIGKILL)
        until(lambda: sound(broken, "edge1") == 3, "all bytes are what they were")
    check(broken, run, 3, tmp_path)


def sound(federation: Federation, cluster: str) -> int:
    """How many contents lie on a cluster, if each has its bytes; else none."""
    contents = stored(federation, cluster, "content")
    try:
        return len(contents) if all(bytes_digest(path.read_bytes()).hex() == path.name for path in contents) else 0
    except FileNotFoundError:  # it goes just now
        return 0


def spoil(content: Path) -> None:
    """Other bytes, and nothing that a look at the file would show."""
    status = content.stat()
    content.chmod(0o644)
    content.write_bytes(bytes(status.st_size))
    content.chmod(status.st_mode)
    os.utime(content, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("victim", ["worker", "node"])
def test_who_has_consumed_its_input_dies(broken: Federation, tmp_path: Path, victim: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run = broken.submit("eaten", pieces=4, marks=marks)
    waiting = broken.begin("wait", run)
    killed = 0
    try:
        while waiting.poll() is None:
            if (eaten := len(list(marks.iterdir()))) > killed:
                killed = eaten
                node = daemon(broken, "node-cloud1.n1")
                for pid in descendants(node) if victim == "worker" else [node]:
                    os.kill(pid, signal.SIGKILL)
            threading.Event().wait(0.05)
    finally:
        waiting.kill()
        waiting.communicate()
    check(broken, run, 4, tmp_path)
    assert killed == 4
    shutil.rmtree(marks)


def test_workers_that_appear_and_vanish_while_units_wait(broken: Federation, tmp_path: Path) -> None:
    run = broken.submit("heavy", pieces=80, seconds=0.1)
    for _ in range(5):
        os.kill(daemon(broken, "node-cloud1.n1"), signal.SIGKILL)
        before = done(broken, run, "copy")
        until(
            lambda before=before: done(broken, run, "copy") > before or done(broken, run, "collect") == 1, "it goes on"
        )
    check(broken, run, 80, tmp_path)


def test_intermediates_of_a_remote_pull_are_freed_by_their_last_consumer(broken: Federation, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = broken.submit("heavy", pieces=20, gate=gate)
    until(lambda: done(broken, run, "copy") == 20, "all units were worked on")
    until(lambda: not units(broken, "edge1", run), "nothing of what was pulled is left where it was made")
    until(lambda: len(units(broken, "cloud1", run)) == 20, "nor where it was pulled to: only what was made there")
    assert not done(broken, run, "collect"), "the run goes on all the while"
    gate.touch()
    check(broken, run, 20, tmp_path)


def units(federation: Federation, cluster: str, run: str) -> list[Path]:
    return [path for path in stored(federation, cluster, "units") if run in path.parts]
