"""A cluster joins with nothing but a token and a hash, works while its certificates come and go, and is cut off."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate
from federation import CASES
from test_services import TOPOLOGY, service

from control_plane.store.etcd.embedded import Etcd, EtcdConfig
from tests.fixtures.ports import free_port
from wire.identity import Identity, Role
from wire.identity.authority import Authority

pytestmark = pytest.mark.slow

SECONDS = 60.0


def until(true: Callable[[], Any]) -> None:
    """Wait for something that has no event of its own."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def serial(credentials: Path) -> int:
    return load_pem_x509_certificate((credentials / "cert.pem").read_bytes()).serial_number


def certificates(holders: list[Path], seen: set[tuple[Path, int]]) -> list[int]:
    """How many certificates each holder was seen with."""
    seen.update((holder, serial(holder)) for holder in holders)
    return [sum(each == holder for each, _ in seen) for holder in holders]


class Place:
    """Where everybody of the test is, and the operator's command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys = directory / "credentials"
        names = ("hub", "join", "nodes", "peers", "agent_join", "data")
        self.at = {name: f"127.0.0.1:{free_port()}" for name in names}

    def bdw_fed(self, *words: str, expect: int = 0) -> str:
        environment = {
            **os.environ,
            "BDW_FED_HUB": self.at["hub"],
            "BDW_FED_CREDENTIALS": str(self.keys / "user"),
        }
        verb = [sys.executable, "-m", "bdw_fed.cli", *words]
        done = subprocess.run(verb, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def hub(self, etcd: str) -> list[str]:
        return [
            *("server", "--directory", f"{self.directory}/hub", "--credentials", f"{self.keys}/hub"),
            *("--etcd", etcd, "--etcd-credentials", f"{self.keys}/etcd-client", "--listen", self.at["hub"]),
            *("--authority", f"{self.directory}/ca", "--listen-join", self.at["join"]),
            *("--certificate-life", "6s", "--certificate-grace", "1h", "--admin", "me"),
        ]

    def agent(self, name: str) -> list[str]:
        return [
            *("agent", "--cluster", "one", "--hub", self.at["hub"], "--directory", f"{self.directory}/{name}"),
            *("--data-root", str(self.directory), "--listen-nodes", self.at["nodes"]),
            *("--listen-peers", self.at["peers"], "--listen-join", self.at["agent_join"]),
        ]

    def node(self, name: str, agent: str) -> list[str]:
        return [
            *("node", "--cluster", "one", "--node", "n1", "--agent", self.at["nodes"]),
            *("--directory", f"{self.directory}/{name}", "--join", self.at["agent_join"]),
            *("--token-file", f"{self.directory}/{agent}/node-token", "--listen-data", self.at["data"]),
            *("--cpus", "2", "--memory", "2Gi"),
        ]

    def join(self, name: str, *, expect: int = 0, **made: str) -> str:
        words = ("agent", "join", made["joinAddress"], "--token", made["token"], "--ca-hash", made["authorityHash"])
        return self.bdw_fed(*words, "--directory", f"{self.directory}/{name}", expect=expect)

    def token(self) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.bdw_fed("token", "create", "--cluster", "one", "-o", "json"))
        return made

    def state(self) -> str:
        environment = {**os.environ, "BDW_FED_HUB": self.at["hub"], "BDW_FED_CREDENTIALS": str(self.keys / "user")}
        verb = [sys.executable, "-m", "bdw_fed.cli", "status", "-o", "json"]
        done = subprocess.run(verb, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        return str(json.loads(done.stdout)["clusters"][0]["state"])

    def works(self, run: str) -> None:
        self.bdw_fed("submit", "command-copies", "--name", run, "--wait")
        self.bdw_fed("outputs", run, "--to", f"{self.directory}/{run}")
        assert (self.directory / run / "file.txt").read_text() == "7\n"


async def test_a_cluster_joins_works_on_through_renewals_is_cut_off_after_its_node_was_and_joins_again(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    authority, etcd_authority = (Authority.create(tmp_path / name) for name in ("ca", "etcd-ca"))
    server = etcd_authority.issue(Identity(Role.ETCD, "etcd"), place.keys / "etcd")
    etcd_authority.issue(Identity(Role.HUB, "hub"), place.keys / "etcd-client")
    authority.issue(Identity(Role.HUB, "hub"), place.keys / "hub")
    authority.issue(Identity(Role.USER, "me"), place.keys / "user")
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    (tmp_path / "seed.txt").write_text("7\n")

    config = EtcdConfig(tmp_path / "etcd", free_port(), server.certificate, server.key, server.ca)
    async with Etcd(config):
        with ExitStack() as services:
            started = services.enter_context
            started(service(*place.hub(config.endpoint)))
            place.bdw_fed("apply", "-f", str(tmp_path / "topology.yaml"))
            place.bdw_fed("apply", "-f", str(CASES / "command-copies" / "workflow.yaml"))
            made = place.token()
            assert "joined as one" in place.join("agent", **made)
            with ExitStack() as members:
                members.enter_context(service(*place.agent("agent")))
                with service(*place.node("node", "agent")):
                    place.works("first")
                    holders = [tmp_path / name / "credentials" for name in ("hub", "agent", "node")]
                    seen: set[tuple[Path, int]] = set()
                    until(lambda: min(certificates(holders, seen)) >= 3)  # each was renewed twice
                    place.works("second")
                    place.bdw_fed("node", "revoke", "one/n1")
                    until(lambda: "revoked" in place.bdw_fed("describe", "cluster", "one"))
                members.enter_context(service(*place.node("node", "agent")))  # with the token that the agent has since
                place.works("third")

                place.bdw_fed("cluster", "revoke", "one")
                until(lambda: place.state() == "revoked")
                assert "is not known" in place.join("thief", expect=1, **made)
            with service(*place.agent("agent")):  # started again it is refused all the same
                assert place.state() == "revoked"

            assert "joined as one" in place.join("agent", **place.token())
            started(service(*place.agent("agent")))
            started(service(*place.node("node", "agent")))  # with the token of now it gets what is good now
            place.works("fourth")
    secrets = [made["token"].partition(".")[2], (tmp_path / "agent" / "node-token").read_text().strip()[72:]]
    stored = [path for path in (tmp_path / "etcd").rglob("*") if path.is_file()]
    for secret in secrets:
        assert re.fullmatch("[0-9a-f]{40}", secret)
        assert not [path for path in stored if secret.encode() in path.read_bytes()]
