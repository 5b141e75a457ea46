"""What `-f` names becomes documents: files, directories (with all below), and standard input.

A file is cut at its `---` lines, so that each document keeps the line where it starts. A step's `run.bundle` names a
directory relative to its file; it is packed here, once for all steps that share it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bdw_fed.cli.exits import UsageError, print_warnings
from bdw_fed.client.objects import Document

_SEPARATOR = re.compile(r"^---(?:\s|$)", re.MULTILINE)
_SUFFIXES = (".yaml", ".yml")
STDIN = "-"


def read_documents(paths: Sequence[str], data_root: Path | None = None) -> list[Document]:
    """All documents in `paths`, in the order of the names. UsageError where there is nothing to read.

    With `data_root` (a federation on this machine), topologies get the sizes of the datasets' parts that lie there.
    """
    bundles: dict[Path, bytes] = {}
    documents = []
    for path in paths:
        for file in _files(path):
            text = sys.stdin.read() if str(file) == STDIN else file.read_text()
            folder = Path() if str(file) == STDIN else file.parent
            for line, part in split_documents(text):
                documents.append(_document(str(file), line, part, folder, bundles, data_root))
    if not documents:
        raise UsageError(f"nothing to apply in {', '.join(paths)}: expected YAML documents")
    return documents


def _files(path: str) -> Iterator[Path]:
    place = Path(path)
    if path == STDIN or place.is_file():
        yield place
    elif place.is_dir():
        for entry in sorted(place.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(str(entry))
            elif entry.suffix in _SUFFIXES:
                yield entry
    else:
        raise UsageError(f"{path}: no such file or directory")


def split_documents(text: str) -> Iterator[tuple[int, str]]:
    """The documents of a YAML text, each with the line where it starts (counted from 1); empty ones are left out.

    >>> list(split_documents("a: 1\\n---\\nb: 2\\n"))
    [(1, 'a: 1\\n'), (3, 'b: 2\\n')]
    """
    starts = [0]
    ends = []
    for match in _SEPARATOR.finditer(text):
        ends.append(match.start())
        newline = text.find("\n", match.start())
        starts.append(len(text) if newline < 0 else newline + 1)
    ends.append(len(text))
    for start, end in zip(starts, ends, strict=True):
        part = text[start:end]
        if any(line.strip() and not line.lstrip().startswith("#") for line in part.splitlines()):
            yield text.count("\n", 0, start) + 1, part


def _document(
    file: str, line: int, text: str, folder: Path, bundles: dict[Path, bytes], data_root: Path | None
) -> Document:
    if data_root is not None and re.search(r"^kind:\s*Topology\b", text, re.MULTILINE):
        text = _measured(text, file, line, data_root)
    directory = _bundle_of(text) if "bundle" in text else None
    bundle = b""
    if directory is not None:
        place = (folder / directory).resolve()
        if place not in bundles:
            bundles[place] = _pack(place, file, line)
        bundle = bundles[place]
    return Document(text, file, line, bundle)


def _measured(text: str, file: str, line: int, data_root: Path) -> str:
    """A topology with its datasets' sizes. Who gave it is warned of files that are not there."""
    from bdw_fed.embedded.datasets import with_sizes
    from bdw_fed.embedded.topologies import documents, missing

    for document in documents(text, file, line):
        print_warnings(missing(document, data_root))
    return with_sizes(text, data_root)


def _bundle_of(text: str) -> str | None:
    """The directory that a step's run.bundle names; None for everything else, also for what is not valid YAML."""
    import yaml

    try:
        content: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - is safe
        bundle = content["spec"]["run"]["bundle"]
    except (yaml.YAMLError, KeyError, TypeError):
        return None  # what is wrong with it, the hub says with line and field
    return bundle if isinstance(bundle, str) else None


def _pack(directory: Path, file: str, line: int) -> bytes:
    from bdw_fed.v1.control_plane_pb2 import Problem
    from wire.errors import ProblemError
    from workflow.bundle import BundleError, pack

    try:
        return pack(directory)
    except BundleError as error:
        remedy = "run.bundle names a directory relative to this file"
        raise ProblemError(
            [Problem(file=file, line=line, field="spec.run.bundle", message=str(error), remedy=remedy)]
        ) from error
