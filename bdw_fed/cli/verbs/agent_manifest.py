"""`agent manifest`: what to apply on a new cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import OK, RefusedError, UsageError
from bdw_fed.cli.options import StorageCredentials
from bdw_fed.cli.quantities import bytes_from
from bdw_fed.cli.verbs.agent import text_in
from bdw_fed.cli.verbs.node import RuntimeName, part_from
from bdw_fed.cli.verbs.server_manifest import Image, Installation

EXAMPLES = """\
  bdw-fed agent manifest --directory ~/federation --topology topology.yaml --cluster edge1 \\
      --hub hub.example.org:30443 --node worker-1 --node worker-2 | kubectl --context edge1 apply -f -
  bdw-fed agent manifest --directory ~/edge1 --cluster edge1 --hub hub.example.org:30443 \\
      --join hub.example.org:30442 --token-file token --ca-hash sha256:5d0c… | kubectl --context edge1 apply -f -
"""


def command(
    directory: Installation,
    cluster: Annotated[str, Option(("--cluster",), "Name of the cluster in the topology.", "NAME")],
    hub: Annotated[str, Option(("--hub",), "The hub's address as the cluster sees it, HOST:PORT.", "ADDRESS")],
    node: Annotated[
        list[str] | None,
        Option(
            ("--node",),
            "A node that is to work, by Kubernetes' name. Repeatable. With --join the default is all of them.",
            "NAME",
        ),
    ] = None,
    join: Annotated[
        str,
        Option(
            ("--join",),
            "Where the hub lets clusters join, HOST:PORT: agent and nodes then make their own keys and renew their "
            "certificates. Needs a token and --ca-hash, as 'bdw-fed token create' prints them.",
            "ADDRESS",
        ),
    ] = "",
    token: Annotated[str, Option(("--token",), "With --join: the token.", "TOKEN")] = "",
    token_file: Annotated[Path | None, Option(("--token-file",), "With --join: a file with the token.", "FILE")] = None,
    ca_hash: Annotated[str, Option(("--ca-hash",), "With --join: hash of the federation's authority.", "HASH")] = "",
    advertise_peers: Annotated[
        str,
        Option(
            ("--advertise-peers",),
            "HOST:30445 as other clusters see it, if the topology's `dial` has them open connections to this one.",
            "ADDRESS",
        ),
    ] = "",
    closed: Annotated[
        bool, Option(("--closed",), "Open no port of the nodes: nobody outside can fetch the outputs that lie here.")
    ] = False,
    trusted: Annotated[
        bool,
        Option(
            ("--trusted",), "With --advertise-peers: open port 7448 of each node, too, for links that are `trusted`."
        ),
    ] = False,
    cpus: Annotated[
        float,
        Option(("--cpus",), "Processors for workers on each node. 0: what each has; for processes, 2.", "NUMBER"),
    ] = 0.0,
    cpu_requests: Annotated[
        float,
        Option(
            ("--cpu-requests",),
            "Part of its step's processors that a worker's pod asks for: less than 1 lets more pods onto a node.",
            "PART",
        ),
    ] = 1.0,
    memory: Annotated[
        str, Option(("--memory",), "Memory for workers on each node. 0: what each has; for processes, 2Gi.", "SIZE")
    ] = "0",
    allow_root: Annotated[
        bool, Option(("--allow-root",), "Steps that say run.user: root are root in their pods. Read the manual before.")
    ] = False,
    disk: Annotated[str, Option(("--disk",), "Disk that a node's store may take; 0: what is free.", "SIZE")] = "0",
    durability: Annotated[
        str,
        Option(
            ("--durability",),
            "What accepted state survives: power, or process (the end of any pod). With power nodes keep no units in "
            "memory.",
            "power|process",
        ),
    ] = "power",
    topology: Annotated[
        Path | None,
        Option(("--topology",), "YAML file with the topology: its runtime, namespace and storage are taken.", "FILE"),
    ] = None,
    storage_credentials: StorageCredentials = None,
    runtime: Annotated[
        RuntimeName | None,
        Option(
            ("--runtime",),
            "What workers are: pods of the steps' images, or processes in the daemons' pods. "
            "Default: as the topology says, else kubernetes.",
            "RUNTIME",
        ),
    ] = None,
    image: Image = None,
    kubernetes_namespace: Annotated[
        str | None,
        Option(("--kubernetes-namespace",), "Where our pods are. Default: as the topology says, else bdw-fed.", "NAME"),
    ] = None,
) -> int:
    """Print what makes a cluster one of the federation: apply it there with kubectl.

    With --join the cluster becomes a member by itself: its keys are made there and never leave it. Else keys and
    certificates are made here, with the authority in DIR, and are in the Secrets that are printed: run it again for a
    node that was added, and every two months, for certificates that end.

    Nothing outside the cluster needs to reach it, but by those who fetch the outputs that lie there, or where
    --advertise-peers has other clusters dial it.
    """
    from bdw_fed.manifests.declared import declared
    from bdw_fed.manifests.errors import ManifestError
    from bdw_fed.manifests.installation import Installation as Kept
    from bdw_fed.manifests.installation import default_image, render
    from bdw_fed.manifests.overlays import NAMESPACE, AgentPlace, Joining
    from bdw_fed.manifests.storing import storing

    presented = token or (text_in(token_file) if token_file else "")
    if join and not (presented and ca_hash):
        raise UsageError("--join: it takes --token or --token-file, and --ca-hash; 'bdw-fed token create' prints both")
    if (presented or ca_hash) and not join:
        raise UsageError("--token and --ca-hash are for clusters that join: say where with --join HOST:PORT")
    if not node and not join:
        raise UsageError("--node: name at least one node, as 'kubectl get nodes' shows it")
    if closed and advertise_peers:
        raise UsageError("--closed: other clusters dial this one, as --advertise-peers says; leave one of them out")
    if trusted and not advertise_peers:
        raise UsageError("--trusted opens a door for clusters that dial this one: say --advertise-peers, too")
    if durability not in ("power", "process"):
        raise UsageError(f"--durability: expected power or process, not {durability!r}")
    try:
        found = declared(topology, cluster) if topology else None
        said = found.runtime if found else None
        kind = runtime or RuntimeName(said.kind if said else RuntimeName.KUBERNETES)
        pods = kind is RuntimeName.KUBERNETES
        storage = storing(found, storage_credentials, pods=pods) if found else None
    except ManifestError as error:
        raise RefusedError(str(error)) from error
    if storage is not None and storage.memory and durability == "power":
        raise UsageError(
            f"--durability: power, where nodes keep no units in memory, but the storage of {cluster} says memory: say "
            "--durability process, or leave memory out"
        )
    space = said.kubernetes.namespace if said and said.kubernetes else NAMESPACE
    place = AgentPlace(
        cluster=cluster,
        hub=hub,
        nodes=tuple(sorted(set(node or ()))),
        image=image or default_image(),
        namespace=kubernetes_namespace or space,
        advertise_peers=advertise_peers,
        trusted=trusted,
        cpus=cpus or (0.0 if pods else AgentPlace.cpus),
        memory=bytes_from("--memory", memory) or (0 if pods else AgentPlace.memory),
        cpu_requests=part_from("--cpu-requests", cpu_requests),
        disk=bytes_from("--disk", disk),
        durability=durability,
        pods=pods,
        allow_root=allow_root,
        data_door=not closed,
        storage=storage,
        joining=Joining(join, ca_hash, presented) if join else None,
    )
    try:
        print(render(Kept(directory).agent(place)), end="")
    except ManifestError as error:
        raise RefusedError(str(error)) from error
    return OK
