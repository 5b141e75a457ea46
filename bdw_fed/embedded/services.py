"""What each process of the federation runs: the production services with the layout's directories and addresses.

Importing this module imports all of them, which is the point: the supervisor does it once, and every process that it
forks has it.
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cluster_agent.agent as agent_service
import cluster_agent.node.service as node_service
import cluster_agent.relay.service as relay_service
import control_plane.server as hub_service
from bdw_fed.embedded.certificates import AUTHORITY, ETCD_CLIENT, USER, kept_by_hub
from bdw_fed.embedded.layout import STORAGE_CREDENTIALS, Layout, Process
from bdw_fed.embedded.ports import LOOPBACK
from cluster_agent.data.shared.declared import shared_config
from cluster_agent.node.config import NodeConfig
from control_plane.config import HubConfig
from control_plane.store.etcd import embedded as etcd_program
from topology.storage import Storage
from wire.identity import Credentials
from wire.logging import configure
from wire.service import run_service

# The hub imports these when somebody needs them. Here nobody waits for it, and a hub that is started again has them.
for _module in (
    "control_plane.api.applying",
    "control_plane.api.preparing",
    "control_plane.federation.directory",
    "control_plane.planner.core",
):
    importlib.import_module(_module)

Ready = Callable[[Any], None]


def run(process: Process, layout: Layout, ready: Ready) -> None:
    """Be this process until SIGTERM. Called in the forked child; its log is its standard error already."""
    configure(process.role, process.name)
    if process.role == "hub":
        run_service(hub_service.serve, _hub(process, layout), ready)
    elif process.role == "relay":
        relay = _relay(process, layout)
        health = f"{LOOPBACK}:{process.ports['health']}"
        run_service(relay_service.serve, relay, ready, health, relay.counts.text)
    elif process.role == "agent":
        run_service(agent_service.serve, _agent(process, layout), ready)
    else:
        run_service(node_service.serve, _node(process, layout), ready)


def etcd_command(process: Process, layout: Layout) -> list[str]:
    """The etcd program's argv; its directory is made."""
    config = _etcd(process, layout)
    etcd_program.prepare(config)
    return etcd_program.command(config)


ETCD_DEATH_SIGNAL = signal.SIGTERM  # it may close its files


def _etcd(process: Process, layout: Layout) -> etcd_program.EtcdConfig:
    credentials = Credentials.at(Path(process.credentials))
    return etcd_program.EtcdConfig(
        state=Path(process.state),
        port=process.ports["clients"],
        certificate=credentials.certificate,
        key=credentials.key,
        ca=credentials.ca,
        durability="process" if layout.durability == "process" else "power",
    )


def _hub(process: Process, layout: Layout) -> HubConfig:
    etcd = layout.one("etcd")
    return HubConfig(
        state=Path(process.state),
        etcd=[f"{LOOPBACK}:{etcd.ports['clients']}"],
        etcd_credentials=Credentials.load(Path(layout.state) / "credentials" / ETCD_CLIENT),
        credentials=Credentials.load(Path(process.credentials)),
        listen=f"{LOOPBACK}:{process.ports['api']}",
        name="hub",
        heartbeat=layout.heartbeat,
        admins=(USER,),
        settle=True,
        authority=Path(layout.state) / AUTHORITY,
        kept=kept_by_hub(layout),
        listen_join=f"{LOOPBACK}:{process.ports['join']}" if "join" in process.ports else "",
    )


def _relay(process: Process, layout: Layout) -> relay_service.RelayConfig:
    return relay_service.RelayConfig(
        name=process.relay,
        listen=f"{LOOPBACK}:{process.ports['relay']}",
        credentials=Credentials.load(Path(process.credentials)),
        hub=(f"{LOOPBACK}:{layout.one('hub').ports['api']}",),
    )


def _agent(process: Process, layout: Layout) -> agent_service.AgentConfig:
    return agent_service.AgentConfig(
        cluster=process.cluster,
        state=Path(process.state),
        hub=[f"{LOOPBACK}:{layout.one('hub').ports['api']}"],
        credentials=Credentials.load(Path(process.credentials)),
        listen_nodes=f"{LOOPBACK}:{process.ports['nodes']}",
        listen_peers=f"{LOOPBACK}:{process.ports['peers']}",
        data_root=Path(layout.data_root),
        durability=layout.durability,
    )


def _node(process: Process, layout: Layout) -> NodeConfig:
    storage = Storage.model_validate_json(process.storage or "{}")
    return NodeConfig(
        cluster=process.cluster,
        node=process.node,
        state=Path(process.state),
        agent=f"{LOOPBACK}:{layout.agent_of(process.cluster).ports['nodes']}",
        credentials=Credentials.load(Path(process.credentials)),
        listen_data=f"{LOOPBACK}:{process.ports['data']}",
        cpus=process.cpus,
        memory=process.memory,
        disk=process.disk,
        secrets=Path(layout.state) / "secrets",
        memory_tier=storage.memory,
        scrub_period=storage.scrub,
        storage=shared_config(storage, Path(layout.state) / STORAGE_CREDENTIALS),
    )
