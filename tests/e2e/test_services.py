"""The services one by one, as an operator starts them on machines of their own, with an etcd of the operator's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from federation import CASES

from control_plane.store.etcd.embedded import Etcd, EtcdConfig
from tests.fixtures.ports import free_port
from wire.identity import Credentials, Identity, Role
from wire.identity.authority import Authority

pytestmark = pytest.mark.slow

TOPOLOGY = """\
kind: Topology
metadata: {name: by-hand}
spec:
  zones: [{name: here, tier: edge}]
  clusters: [{name: one, zone: here, runtime: process, nodes: [{name: n1, cpus: 2, memory: 2Gi}]}]
  datasets: [{name: seed, parts: [{at: one, path: seed.txt}]}]
"""


@contextmanager
def service(*words: str) -> Iterator[str]:
    """A service that has said that it is ready, and its words; it ends at SIGTERM with exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bdw_fed.cli", *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout
        said = process.stdout.readline()
        assert said, f"{words[0]} ended with {process.wait()}"
        yield said
        process.terminate()
        assert process.wait(timeout=30) == 0


async def test_hub_agent_and_node_run_a_workflow_with_an_etcd_of_the_operators_own(tmp_path: Path) -> None:
    authority, etcd_authority = (Authority.create(tmp_path / name) for name in ("ca", "etcd-ca"))

    def issue(name: str, role: Role, by: Authority = authority) -> Credentials:
        return by.issue(Identity(role, name), tmp_path / "credentials" / f"{role}-{name.replace('/', '-')}")

    server, _ = issue("etcd", Role.ETCD, etcd_authority), issue("hub", Role.HUB, etcd_authority)
    (tmp_path / "credentials" / "hub-hub").rename(tmp_path / "credentials" / "etcd-client")
    for name, role in (("hub", Role.HUB), ("one", Role.AGENT), ("one/n1", Role.NODE), ("me", Role.USER)):
        issue(name, role)
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "seed.txt").write_text("7\n")
    hub, nodes, peers, data = (f"127.0.0.1:{free_port()}" for _ in range(4))
    keys = tmp_path / "credentials"
    environment = {**os.environ, "BDW_FED_HUB": hub, "BDW_FED_CREDENTIALS": str(keys / "user-me")}

    def bdw_fed(*words: str) -> str:
        verb = [sys.executable, "-m", "bdw_fed.cli", *words]
        done = subprocess.run(verb, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    config = EtcdConfig(tmp_path / "etcd", free_port(), server.certificate, server.key, server.ca)
    async with Etcd(config):
        with ExitStack() as services:
            started = services.enter_context
            started(
                service(
                    *("server", "--directory", f"{tmp_path}/hub", "--credentials", f"{keys}/hub-hub"),
                    *("--etcd", config.endpoint, "--etcd-credentials", f"{keys}/etcd-client", "--listen", hub),
                    *("--admin", "me"),
                )
            )
            started(
                service(
                    *("agent", "--cluster", "one", "--hub", hub, "--directory", f"{tmp_path}/agent"),
                    *("--credentials", f"{keys}/agent-one", "--data-root", str(tmp_path)),
                    *("--listen-nodes", nodes, "--listen-peers", peers),
                )
            )
            started(
                service(
                    *("node", "--cluster", "one", "--node", "n1", "--agent", nodes, "--directory", f"{tmp_path}/node"),
                    *("--credentials", f"{keys}/node-one-n1", "--listen-data", data, "--cpus", "2", "--memory", "2Gi"),
                )
            )
            bdw_fed("apply", "-f", str(tmp_path / "topology.yaml"))
            bdw_fed("apply", "-f", str(CASES / "command-copies" / "workflow.yaml"))
            bdw_fed("submit", "command-copies", "--name", "by-hand", "--wait")
            bdw_fed("outputs", "by-hand", "--to", str(tmp_path / "out"))
    assert (tmp_path / "out" / "file.txt").read_text() == "7\n"
