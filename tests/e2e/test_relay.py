"""Two edges of which neither can dial the other: what crosses goes over relays, and the outputs are the same."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from federation import HERE, Federation
from killing import stopped

from bdw_fed.embedded.layout import read_layout

pytestmark = pytest.mark.slow

PATIENCE = 60.0
THERE, BACK = ("left", "right"), ("right", "left")  # back, one after the other: as they are worked on
PIECES, KILOBYTES = 12, 512
TOPOLOGY = """\
kind: Topology
metadata: {name: cut-off}
spec:
  zones: [{name: l, tier: edge}, {name: r, tier: edge}]
  clusters:
    - {name: left, zone: l, nodes: [{name: n1, cpus: 2, memory: 2Gi}]}
    - {name: right, zone: r, nodes: [{name: n1, cpus: 2, memory: 2Gi}]}
  links: [{between: [l, r], bandwidth: 100Mbit, latency: 5ms, dial: none}]
  relays:
    - {name: one, address: "one.example.org:7447"}
    - {name: two, address: "two.example.org:7447", zones: [l, r]}
  datasets: [{name: seed, parts: [{at: left, path: seed.txt}]}]
"""


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """The two edges, which reach each other over relays alone."""
    directory = tmp_path_factory.mktemp("cut-off")
    (directory / "topology.yaml").write_text(TOPOLOGY)
    (directory / "seed.txt").write_text("7\n")
    started = Federation.start(directory, directory / "topology.yaml")
    try:
        started.apply(HERE / "federation" / "relayed" / "workflow.yaml")
        yield started
    finally:
        started.stop()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        threading.Event().wait(0.02)


def passed(federation: Federation, relay: str) -> dict[tuple[str, str], int]:
    """What a relay has passed on since it was started, by sender and receiver."""
    layout = read_layout(federation.state)
    assert layout is not None
    port = next(process.ports["health"] for process in layout.processes if process.relay == relay)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    lines = re.findall(r'bdw_fed_relay_bytes_total\{sender="(.*)",receiver="(.*)"\} (\d+)', told)
    return {(sender, receiver): int(count) for sender, receiver, count in lines}


def peers(federation: Federation, cluster: str) -> list[dict[str, Any]]:
    """How a cluster reaches its peers, as `describe` tells it."""
    told: list[dict[str, Any]] = federation.ask("describe", "cluster", cluster).get("peers", [])
    return told


def process(federation: Federation, name: str) -> dict[str, Any]:
    return next(each for each in federation.supervised()[1] if each["name"] == name)


def is_back(federation: Federation, name: str, killed: int) -> bool:
    """Whether another process is there in place of one that was killed, and ready."""
    now = process(federation, name)
    return now["state"] == "ready" and now["pid"] != killed


def listed(federation: Federation, run: str, directory: Path) -> str:
    federation.insist("wait", run)
    return federation.outputs(run, directory)["list.txt"]


WHOLE = "".join(f"{index}\n" for index in range(PIECES))


def test_a_run_ends_with_the_same_output_and_all_that_crossed_has_passed_a_relay(
    cut_off: Federation, tmp_path: Path
) -> None:
    run = cut_off.submit("relayed")
    assert listed(cut_off, run, tmp_path) == WHOLE
    until(lambda: [peer["path"] for peer in peers(cut_off, "left")] == ["relay"], "the hub has heard of the path")
    (peer,) = peers(cut_off, "left")
    assert peer == {"cluster": "right", "path": "relay", "relay": "one"}
    bulk = PIECES * KILOBYTES * 1024
    through = passed(cut_off, "one")
    assert through[THERE] > bulk
    assert through[BACK] > bulk
    assert passed(cut_off, "two") == {}


@pytest.mark.fault
def test_what_crosses_needs_no_hub(cut_off: Federation, tmp_path: Path) -> None:
    run = cut_off.submit("relayed", seconds=1.0)
    cut_off.wait_until_running(run)
    hub = process(cut_off, "hub")["pid"]
    before = passed(cut_off, "one")[BACK]
    with stopped(hub):
        until(lambda: passed(cut_off, "one")[BACK] > before + KILOBYTES * 1024, "units cross without a hub")
    assert listed(cut_off, run, tmp_path) == WHOLE


@pytest.mark.fault
def test_a_relay_killed_in_the_middle_is_made_up_for_by_the_other_or_by_itself_once_it_is_back(
    cut_off: Federation, tmp_path: Path
) -> None:
    run = cut_off.submit("relayed", seconds=0.5)
    cut_off.wait_until_running(run)
    for relay, other in (("one", "two"), ("two", "one")):
        before = passed(cut_off, other).get(BACK, 0)
        killed = process(cut_off, f"relay-{relay}")["pid"]
        os.kill(killed, signal.SIGKILL)
        until(lambda name=f"relay-{relay}", pid=killed: is_back(cut_off, name, pid), f"{relay} is back")
        until(
            lambda one=relay, two=other, was=before: (
                passed(cut_off, one).get(BACK, 0) + passed(cut_off, two).get(BACK, 0) - was > 0
                or cut_off.describe(run)["run"]["state"] == "RUN_STATE_SUCCEEDED"
            ),
            "units cross again",
        )
    assert listed(cut_off, run, tmp_path / "1") == WHOLE
    again = cut_off.submit("relayed")
    assert listed(cut_off, again, tmp_path / "2") == WHOLE
