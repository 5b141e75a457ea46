"""The topology that a federation on this machine is made from: read, checked, and reduced to processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bdw_fed.embedded.datasets import absent, with_sizes
from bdw_fed.embedded.errors import EmbeddedError
from bdw_fed.embedded.layout import NodeShape
from bdw_fed.embedded.ports import LOOPBACK
from bdw_fed.v1.control_plane_pb2 import Problem
from topology.model import Cluster, Topology
from topology.problems import Problem as Fault
from topology.storage import Storage
from wire.digests import bytes_digest
from wire.errors import ProblemError
from workflow.checks import check_documents, document_warnings
from workflow.load import Document, load

DEFAULT = Path(__file__).with_name("default.yaml")


@dataclass(frozen=True)
class Chosen:
    """A topology to start: its text with sizes, where datasets lie, and which clusters and nodes it needs."""

    name: str
    file: str
    text: str
    digest: str  # of what its author wrote
    data_root: Path
    clusters: tuple[str, ...]
    nodes: tuple[NodeShape, ...]
    relays: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()  # of what is allowed, but was hardly meant


def check(text: str, file: str, line: int = 1) -> list[Topology]:
    """The topologies in a text. ProblemError with all that is wrong with it."""
    return [found.model for found in documents(text, file, line) if isinstance(found.model, Topology)]


def documents(text: str, file: str, line: int = 1) -> list[Document]:
    """The documents of topologies in a text, which know their places. ProblemError with all that is wrong with it."""
    loaded = load(text, file, line)
    found = [document for document in loaded.documents if isinstance(document.model, Topology)]
    faults = loaded.problems or [fault for document in found for fault in check_documents([document])]
    if any(fault.severity == "error" for fault in faults):
        raise ProblemError([told(fault) for fault in faults])
    return found


def read_one(file: Path, wrong: type[Exception]) -> tuple[str, Topology]:
    """A file's text and the one topology in it. ProblemError, or `wrong` with what was expected."""
    text, document = _one(file, wrong)
    assert isinstance(document.model, Topology)
    return text, document.model


def _one(file: Path, wrong: type[Exception]) -> tuple[str, Document]:
    try:
        text = file.read_text()
    except OSError as error:
        raise wrong(f"{file}: {error.strerror}; expected a YAML file with a topology") from error
    found = documents(text, str(file))
    if len(found) != 1:
        raise wrong(f"{file}: expected one document of kind Topology, found {len(found)}")
    return text, found[0]


def missing(document: Document, data_root: Path) -> list[Problem]:
    """Warnings of datasets' parts that are not below `data_root`."""
    assert isinstance(document.model, Topology)
    return [told(each) for each in absent(document.model, document.positions, data_root)]


def choose(path: Path | None, data_root: Path | None) -> Chosen:
    """The topology in the file `path` (None: the built-in one). ProblemError, EmbeddedError with what to do."""
    file = path or DEFAULT
    text, document = _one(file, EmbeddedError)
    topology = document.model
    assert isinstance(topology, Topology)
    spec = topology.spec
    _refuse_kubernetes(spec.clusters, str(file))
    root = (data_root or (path.parent if path else Path())).resolve()
    if not root.is_dir():
        raise EmbeddedError(f"{root}: no such directory; datasets' paths are relative to it (see --data)")
    nodes = tuple(
        NodeShape(cluster.name, node.name, node.cpus, node.memory, node.disk, _storage(cluster))
        for cluster in spec.clusters
        for node in cluster.nodes
    )
    return Chosen(
        name=topology.metadata.name,
        file=str(file),
        text=with_sizes(text, root),
        digest=bytes_digest(text.encode()).hex(),
        data_root=root,
        clusters=tuple(cluster.name for cluster in spec.clusters),
        nodes=nodes,
        relays=tuple(relay.name for relay in spec.relays),
        warnings=(*map(told, document_warnings([document])), *missing(document, root)),
    )


def _storage(cluster: Cluster) -> str:
    return cluster.storage.model_dump_json(exclude_defaults=True) if cluster.storage != Storage() else ""


def _refuse_kubernetes(clusters: Sequence[Cluster], file: str) -> None:
    """Processes here are no stand-in for pods: they would execute what was meant for an image."""
    for index, cluster in enumerate(clusters):
        if cluster.runtime.kind == "kubernetes":
            raise EmbeddedError(
                f"{file}: spec.clusters[{index}].runtime: cluster {cluster.name} is of runtime kubernetes, but on this "
                f"machine workers are processes. Write runtime: process, or make clusters with 'bdw-fed kind up {file}'"
            )


def with_relays(text: str, ports: Mapping[str, int]) -> str:
    """The topology in `text` with its relays where they are on this machine; `text` itself where there are none."""
    if not ports:
        return text
    content: Any = yaml.safe_load(text)
    for relay in content["spec"]["relays"]:
        relay["address"] = f"{LOOPBACK}:{ports[relay['name']]}"
    dumped: str = yaml.safe_dump(content, sort_keys=False)
    return dumped


def told(fault: Fault) -> Problem:
    """A fault as people are told of it."""
    return Problem(file=fault.file, line=fault.line, field=fault.field, message=fault.message, remedy=fault.remedy)
