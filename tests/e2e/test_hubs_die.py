"""Two hubs on one etcd, real processes: whichever is killed, runs go on, and end as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from federation import HERE

from control_plane.store.etcd.embedded import Etcd, EtcdConfig
from tests.fixtures.ports import free_port
from wire.identity import Identity, Role
from wire.identity.authority import Authority

pytestmark = [pytest.mark.slow, pytest.mark.fault]

PATIENCE = 90.0
PIECES = 12
TOPOLOGY = """\
kind: Topology
metadata: {name: by-hand}
spec:
  zones: [{name: l, tier: edge}, {name: r, tier: edge}]
  clusters:
    - {name: left, zone: l, nodes: [{name: n1, cpus: 2, memory: 2Gi}]}
    - {name: right, zone: r, nodes: [{name: n1, cpus: 2, memory: 2Gi}]}
  links: [{between: [l, r], bandwidth: 100Mbit, latency: 5ms}]
  datasets: [{name: seed, parts: [{at: left, path: seed.txt}]}]
"""


@contextmanager
def service(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A service that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bdw_fed.cli", *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    with process:
        try:
            assert process.stdout
            assert process.stdout.readline(), f"{words[0]} ended with {process.wait()}"
            yield process
        finally:
            process.terminate()


class Pair:
    """Two hubs, two clusters that know both, and commands to either hub."""

    def __init__(self, directory: Path, etcd: str, services: ExitStack) -> None:
        self._directory = directory
        self._etcd = etcd
        self._services = services
        self.addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self._hubs = [self._start_hub(number) for number in range(2)]
        for cluster in ("left", "right"):
            self._start_cluster(cluster)

    def call(self, hub: int, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command at one of the hubs prints."""
        environment = {
            **os.environ,
            "BDW_FED_HUB": self.addresses[hub],
            "BDW_FED_CREDENTIALS": str(self._directory / "user-me"),
        }
        verb = [sys.executable, "-m", "bdw_fed.cli", *words]
        done = subprocess.run(verb, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout

    def clusters(self, hub: int) -> list[dict[str, Any]]:
        """As this hub sees them."""
        found: list[dict[str, Any]] = json.loads(self.call(hub, "get", "clusters", "-o", "json"))
        return found

    def done(self, hub: int, run: str) -> dict[str, int]:
        """Tasks done by step, over all clusters."""
        told = json.loads(self.call(hub, "describe", "run", run, "-o", "json"))["run"]
        sums: dict[str, int] = {}
        for fragment in told.get("fragments", {}).values():
            for step in fragment.get("steps", []):
                sums[step["step"]] = sums.get(step["step"], 0) + int(step.get("done", 0))
        return sums

    def kill(self, hub: int) -> None:
        os.kill(self._hubs[hub].pid, signal.SIGKILL)
        self._hubs[hub].wait()

    def start_again(self, hub: int) -> None:
        self._hubs[hub] = self._start_hub(hub)

    def _start_hub(self, number: int) -> subprocess.Popen[str]:
        place = self._directory
        return self._services.enter_context(
            service(
                [
                    *("server", "--directory", f"{place}/hub{number}", "--credentials", f"{place}/hub-hub"),
                    *("--etcd", self._etcd, "--etcd-credentials", f"{place}/etcd-client"),
                    *("--listen", self.addresses[number], "--name", f"hub{number}", "--blobs", f"{place}/blobs"),
                    *("--admin", "me", "--heartbeat", "0.5"),
                ]
            )
        )

    def _start_cluster(self, cluster: str) -> None:
        place, nodes = self._directory, f"127.0.0.1:{free_port()}"
        hubs = [word for address in self.addresses for word in ("--hub", address)]
        self._services.enter_context(
            service(
                [
                    *("agent", "--cluster", cluster, *hubs, "--directory", f"{place}/agent-{cluster}-state"),
                    *("--credentials", f"{place}/agent-{cluster}", "--data-root", str(place)),
                    *("--listen-nodes", nodes, "--listen-peers", f"127.0.0.1:{free_port()}"),
                ]
            )
        )
        self._services.enter_context(
            service(
                [
                    *("node", "--cluster", cluster, "--node", "n1", "--agent", nodes, "--cpus", "2", "--memory", "2Gi"),
                    *("--directory", f"{place}/node-{cluster}-state", "--credentials", f"{place}/node-{cluster}-n1"),
                    *("--listen-data", f"127.0.0.1:{free_port()}"),
                ]
            )
        )


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """The two, with topology and workflow applied at the first, and seen ready by the second."""
    authority, of_etcd = (Authority.create(tmp_path / name) for name in ("ca", "etcd-ca"))
    members = [(Role.HUB, "hub"), (Role.USER, "me")]
    members += [(Role.AGENT, cluster) for cluster in ("left", "right")]
    members += [(Role.NODE, f"{cluster}/n1") for cluster in ("left", "right")]
    for role, name in members:
        authority.issue(Identity(role, name), tmp_path / f"{role}-{name.replace('/', '-')}")
    server = of_etcd.issue(Identity(Role.ETCD, "etcd"), tmp_path / "etcd-server")
    of_etcd.issue(Identity(Role.HUB, "hub"), tmp_path / "etcd-client")
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "seed.txt").write_text("7\n")
    config = EtcdConfig(tmp_path / "etcd", free_port(), server.certificate, server.key, server.ca)
    async with Etcd(config):
        with ExitStack() as services:
            made = Pair(tmp_path, config.endpoint, services)
            made.call(0, "apply", "-f", str(tmp_path / "topology.yaml"))
            made.call(0, "apply", "-f", str(HERE / "federation" / "relayed" / "workflow.yaml"))
            for hub in (0, 1):
                until(lambda hub=hub: ready(made, hub), f"hub {hub} sees both clusters ready")
            yield made


def ready(pair: Pair, hub: int) -> bool:
    states = [(each["state"], len(each.get("nodes", []))) for each in pair.clusters(hub)]
    return states == [("ready", 1)] * 2


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"


def test_each_hub_is_killed_in_the_middle_of_a_run_and_none_notices(pair: Pair, tmp_path: Path) -> None:
    for dies, lives in ((0, 1), (1, 0)):
        run = f"hub{dies}-dies"
        pair.call(dies, "submit", "relayed", "--name", run, "-p", "seconds=0.3", "-p", "kilobytes=64")
        until(lambda run=run, hub=lives: pair.done(hub, run).get("copy", 0) >= 2, "the run is in its middle")
        pair.kill(dies)
        pair.call(lives, "wait", run)
        pair.call(lives, "outputs", run, "--to", str(tmp_path / run))
        assert (tmp_path / run / "list.txt").read_text() == "".join(f"{index}\n" for index in range(PIECES))
        done = pair.done(lives, run)
        assert {step: done[step] for step in ("make", "copy", "collect")} == {"make": 1, "copy": PIECES, "collect": 1}
        until(lambda hub=lives: ready(pair, hub), "all agents are with the one that lives")
        pair.start_again(dies)
