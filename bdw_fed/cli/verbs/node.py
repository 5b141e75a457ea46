"""`node`: a node daemon as a service."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import RefusedError, UsageError
from bdw_fed.cli.options import StorageCredentials
from bdw_fed.cli.quantities import bytes_from
from bdw_fed.cli.verbs.agent import OwnCredentials, found_or_joined
from bdw_fed.cli.verbs.agent_join import CREDENTIALS
from bdw_fed.cli.verbs.server import Directory, ListenHealth, LogLevel

if TYPE_CHECKING:
    from topology.storage import Storage

EXAMPLES = """\
  bdw-fed node --cluster edge1 --node n1 --agent 127.0.0.1:7444 \\
      --directory /var/lib/bdw-fed/node --join 127.0.0.1:7447 --token-file node-token --cpus 4 --memory 8Gi
  bdw-fed node --cluster edge1 --node n1 --agent 127.0.0.1:7444 \\
      --directory /var/lib/bdw-fed/node --credentials /etc/bdw-fed/node
"""


class RuntimeName(StrEnum):
    """What workers are."""

    PROCESS = "process"
    KUBERNETES = "kubernetes"


def command(
    cluster: Annotated[str, Option(("--cluster",), "Name of the cluster in the topology.", "NAME")],
    node: Annotated[str, Option(("--node",), "Name of this node in its cluster.", "NAME")],
    agent: Annotated[str, Option(("--agent",), "Where the cluster's agent listens for nodes.", "ADDRESS")],
    directory: Directory,
    credentials: OwnCredentials = None,
    join: Annotated[
        str, Option(("--join",), "Where the agent lets nodes join, for who has no credentials yet.", "ADDRESS")
    ] = "",
    token_file: Annotated[
        Path | None, Option(("--token-file",), "With --join: a copy of the agent's file node-token.", "FILE")
    ] = None,
    listen_data: Annotated[
        str, Option(("--listen-data",), "Where to serve data to other nodes.", "ADDRESS")
    ] = "0.0.0.0:7446",
    advertise_data: Annotated[
        str, Option(("--advertise-data",), "Where other nodes find that, if it differs.", "ADDRESS")
    ] = "",
    plain_port: Annotated[
        int, Option(("--plain-port",), "Where to serve it without TLS to clusters by trusted links; 0: any.", "PORT")
    ] = 0,
    cpus: Annotated[float, Option(("--cpus",), "Processors for workers; 0: all that the node has.", "NUMBER")] = 0.0,
    memory: Annotated[str, Option(("--memory",), "Memory for workers; 0: all that the node has.", "SIZE")] = "0",
    disk: Annotated[str, Option(("--disk",), "Disk that the store may take; 0: what is free.", "SIZE")] = "0",
    memory_directory: Annotated[
        str, Option(("--memory-directory",), "Where small tasks have their files. Default: shared memory.", "DIRECTORY")
    ] = "",
    memory_tier: Annotated[
        str,
        Option(
            ("--memory-tier",),
            "Of processes: memory that units may take. Default: as the topology says, else a sixteenth of --memory for "
            "those that ask for it.",
            "SIZE",
        ),
    ] = "",
    scrub: Annotated[
        str,
        Option(
            ("--scrub",),
            "In which time all that is stored is read again; 0: never. Default: as the topology says, else 7d.",
            "DURATION",
        ),
    ] = "",
    scrub_rate: Annotated[str, Option(("--scrub-rate",), "What is read for that in a second, at most.", "SIZE")] = "8M",
    topology: Annotated[
        Path | None,
        Option(("--topology",), "YAML file with the topology: the cluster's storage is taken from it.", "FILE"),
    ] = None,
    storage_credentials: StorageCredentials = None,
    secrets: Annotated[
        Path | None,
        Option(("--secrets",), "Of processes: what steps may ask for, NAMESPACE/NAME/KEY below it.", "DIRECTORY"),
    ] = None,
    runtime: Annotated[
        RuntimeName,
        Option(("--runtime",), "What workers are: processes of ours, or pods of this node.", "RUNTIME"),
    ] = RuntimeName.PROCESS,
    pod: Annotated[
        str, Option(("--pod",), "Of kubernetes: the pod that this is; others are made by its example.", "NAME")
    ] = "",
    kube_namespace: Annotated[
        str, Option(("--kube-namespace",), "Of kubernetes: where the pods go. Default: our own.", "NAME")
    ] = "",
    kube_context: Annotated[
        str, Option(("--kube-context",), "Of kubernetes, outside of a cluster: its context in the kubeconfig.", "NAME")
    ] = "",
    worker_image: Annotated[
        str, Option(("--worker-image",), "Of kubernetes: for steps that name no image. Default: ours.", "IMAGE")
    ] = "",
    starter_image: Annotated[
        str, Option(("--starter-image",), "Of kubernetes: ours, which has the starter. Default: the pod's.", "IMAGE")
    ] = "",
    cpu_requests: Annotated[
        float, Option(("--cpu-requests",), "Of kubernetes: part of its step's processors that a pod asks for.", "PART")
    ] = 1.0,
    allow_root: Annotated[
        bool, Option(("--allow-root",), "Of kubernetes: steps that ask for it are root in their pods.")
    ] = False,
    listen_health: ListenHealth = "",
    log_level: LogLevel = "warning",
) -> None:
    """Run the daemon of one node, in the foreground, until SIGTERM."""
    import os

    from bdw_fed.cli.service import say_ready
    from bdw_fed.cli.verbs.token_create import seconds_from
    from cluster_agent.data.shared.declared import shared_config
    from cluster_agent.data.shared.errors import WrongStorageError
    from cluster_agent.node.config import NodeConfig
    from cluster_agent.node.service import serve
    from wire.identity import Identity, Role
    from wire.logging import configure
    from wire.service import run_service

    configure("node", f"{cluster}/{node}", level=log_level)
    kubernetes = None
    if runtime is RuntimeName.KUBERNETES:
        from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig

        kubernetes = KubernetesConfig(
            context=kube_context,
            namespace=kube_namespace,
            pod=pod,
            worker_image=worker_image,
            starter_image=starter_image,
            cpu_requests=part_from("--cpu-requests", cpu_requests),
            allow_root=allow_root,
        )
    token = token_in(token_file) if token_file else ""
    if join and not token:
        raise UsageError("--join: it takes --token-file, a copy of the file node-token in the agent's directory")
    place = credentials or directory / CREDENTIALS
    ca_hash = token.partition(".")[0]
    server = Identity(Role.AGENT, cluster)
    found = found_or_joined(join, server, token, ca_hash, place, cluster=cluster, node=node)
    storage = storage_of(topology, cluster)
    config = NodeConfig(
        cluster=cluster,
        node=node,
        state=directory.absolute(),
        agent=agent,
        credentials=found,
        listen_data=listen_data,
        advertise_data=advertise_data,
        plain_port=plain_port,
        cpus=cpus or (0.0 if kubernetes else float(os.cpu_count() or 1)),
        memory=bytes_from("--memory", memory),
        disk=bytes_from("--disk", disk),
        memory_directory=Path(memory_directory).absolute() if memory_directory else None,
        memory_tier=bytes_from("--memory-tier", memory_tier) if memory_tier else storage.memory,
        scrub_period=seconds_from("--scrub", scrub) if scrub else storage.scrub,
        scrub_most=rate_from("--scrub-rate", scrub_rate),
        storage=shared_config(storage, storage_credentials or directory / "storage-credentials"),
        secrets=secrets.absolute() if secrets else None,
        kubernetes=kubernetes,
    )
    try:
        run_service(serve, config, say_ready, listen_health)
    except WrongStorageError as error:
        raise RefusedError(str(error)) from error


def storage_of(file: Path | None, cluster: str) -> Storage:
    """What a file with the topology says of a cluster's storage. RefusedError."""
    from bdw_fed.manifests.declared import declared
    from bdw_fed.manifests.errors import ManifestError
    from topology.storage import Storage

    try:
        return declared(file, cluster).storage if file is not None else Storage()
    except ManifestError as error:
        raise RefusedError(str(error)) from error


def rate_from(flag: str, text: str) -> int:
    """Bytes a second, more than none. UsageError names the flag."""
    rate = bytes_from(flag, text)
    if not rate:
        raise UsageError(f"{flag}: nothing would ever be read: expected more than 0, or --scrub 0 in its place")
    return rate


def part_from(flag: str, part: float) -> float:
    """A part of something, more than nothing. UsageError names the flag."""
    if not 0.0 < part <= 1.0:
        raise UsageError(f"{flag}: {part:g} is not a part: expected more than 0, and 1 at most")
    return part


def token_in(file: Path) -> str:
    """The node token in a file. RefusedError."""
    from cluster_agent.membership.errors import JoinError
    from cluster_agent.membership.node_token import read_token

    try:
        return read_token(file)
    except JoinError as error:
        raise RefusedError(str(error)) from error
