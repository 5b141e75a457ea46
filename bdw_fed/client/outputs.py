"""Outputs: fetching a run's results from the data servers of the nodes that keep them.

The bytes never pass the hub. A download goes into `.NAME.part` next to its place, continues from what is there already,
tries each address in turn for as long as `patience` says, and moves to its name only when its digest is right. What is
a directory comes packed; it is unpacked beside its place, and appears there as a whole.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bdw_fed.client.errors import DownloadFailed, Expired
from bdw_fed.v1 import control_plane_pb2 as pb
from wire import permits
from wire.digests import content_digest
from wire.directories import DirectoryError, pack, unpack

PERMIT_SECONDS = permits.SECONDS / 2  # then another is asked for
_READ_BYTES = 1 << 20
_TIMEOUT = 20.0
_PAUSE = 0.5
_WORDS_BYTES = 4096


@dataclass(frozen=True)
class Source:
    """One output, where it lies, the TLS context to fetch it with, and the hub's permit to be shown there."""

    located: pb.OutputsResponse.Located
    namespace: str
    run: str
    context: ssl.SSLContext
    permit: bytes = b""


@dataclass(frozen=True)
class Downloaded:
    """One output that is saved. `received` counts the bytes that crossed now; less than `size` if some were there."""

    name: str
    path: Path
    size: int
    received: int


def places(
    located: Sequence[pb.OutputsResponse.Located], to: Path
) -> Iterator[tuple[pb.OutputsResponse.Located, Path]]:
    """Where each output of a run is saved: by its file name; one that has several units gets a number for each.

    Outputs that would be saved under one name, as ports of one step used twice give it, get their own names before it.
    """
    counts = Counter(item.output.name for item in located)
    named: dict[str, set[str]] = {}
    for item in located:
        named.setdefault(_file_of(item), set()).add(item.output.name)
    seen: dict[str, int] = {}
    for item in located:
        name, file = item.output.name, _file_of(item)
        if len(named[file]) > 1:
            file = f"{name}-{file}"
        if counts[name] > 1:
            index = seen[name] = seen.get(name, -1) + 1
            stem, dot, suffix = file.partition(".")
            file = f"{stem}-{index:05d}{dot}{suffix}"
        yield item, to / file


def _file_of(item: pb.OutputsResponse.Located) -> str:
    output = item.output
    file = PurePosixPath(output.file or output.unit.name or output.name).name
    return output.name if file in ("", ".", "..") else file


def refuse_expired(run: str, located: Sequence[pb.OutputsResponse.Located], names: Sequence[str]) -> None:
    """Expired, if one of the outputs (those in `names`, or all) is kept no longer."""
    wanted = {item.output.name: item for item in located if not names or item.output.name in names}
    gone = {name: item for name, item in wanted.items() if item.expired}
    if not gone:
        return
    told = ", ".join(
        f"{name} was kept until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(item.kept_until))}"
        for name, item in sorted(gone.items())
    )
    others = sorted({item.output.name for item in located if not item.expired})
    rest = f"; name those that are there still: {', '.join(others)}" if others else ""
    raise Expired(
        f"run {run}: {told}, as its workflow says (retain), and is deleted{rest}. "
        f"'bdw-fed resubmit {run}' makes it once more"
    )


def download(source: Source, path: Path, patience: float) -> Downloaded:
    """Save one output at `path`, a file or a directory.

    Raises DownloadFailed when no node gives the right bytes within `patience` seconds.
    """
    output = source.located.output
    path.parent.mkdir(parents=True, exist_ok=True)
    was_there = _is_right_directory if output.directory else _is_right
    if was_there(path, output.unit.size, output.unit.digest):
        return Downloaded(output.name, path, output.unit.size, 0)
    if output.lost:
        raise DownloadFailed(f"output {output.name} is lost: {output.lost}; resubmit the run to have it made again")
    if not output.node:
        raise DownloadFailed(
            f"output {output.name} lies in the bucket of {output.cluster}, and none of its nodes has taken it over yet "
            "from the one that was lost; try again once one is attached and the bucket answers"
        )
    if not source.located.addresses:
        raise DownloadFailed(f"output {output.name}: node {output.cluster}/{output.node} has it, but is not attached")
    partial = path.with_name(f".{path.name}.part")
    deadline = time.monotonic() + patience
    received = 0
    doubted = False
    while True:
        reasons = []
        for address in source.located.addresses:
            try:
                received += _continue(source, address, partial, doubted=doubted)
                break
            except (OSError, http.client.HTTPException) as error:
                reasons.append(f"{address}: {_reason(error)}")
        else:
            if time.monotonic() >= deadline:
                place = f"{output.cluster}/{output.node}"
                raise DownloadFailed(f"output {output.name} can't be fetched from {place}: {'; '.join(reasons)}")
            time.sleep(_PAUSE)
            continue
        if _is_right(partial, output.unit.size, output.unit.digest):
            if output.directory:
                _become(partial, path, output.name)
            else:
                partial.replace(path)
            return Downloaded(output.name, path, output.unit.size, received)
        if partial.stat().st_size >= output.unit.size:
            partial.unlink()
            doubted = True  # the node shall look at what it has before it gives it out again
        if time.monotonic() >= deadline:
            raise DownloadFailed(f"output {output.name}: the bytes received are not those that the run made")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "somebody else answers there; is the node's address one that is reachable from here?"
    return str(error) or type(error).__name__


def _is_right(path: Path, size: int, digest: bytes) -> bool:
    return path.is_file() and path.stat().st_size == size and content_digest(path) == digest


def _is_right_directory(path: Path, size: int, digest: bytes) -> bool:
    """What it would be packed into now says whether it is the one."""
    if not path.is_dir():
        return False
    packed = path.with_name(f".{path.name}.tar")
    packed.unlink(missing_ok=True)
    try:
        pack(path, packed)
        return _is_right(packed, size, digest)
    except DirectoryError:
        return False
    finally:
        packed.unlink(missing_ok=True)


def _become(archive: Path, path: Path, name: str) -> None:
    """Make `path` the directory of an archive, which is removed. Another one of that name is replaced."""
    fresh, former = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
    for left in (fresh, former):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with archive.open("rb") as file:
            unpack(file, fresh, writable=True)
    except DirectoryError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise DownloadFailed(f"output {name} can't be made a directory here: {error}") from error
    if path.is_dir() and not path.is_symlink():
        path.rename(former)
    else:
        path.unlink(missing_ok=True)
    fresh.rename(path)
    shutil.rmtree(former, ignore_errors=True)
    archive.unlink()


def _continue(source: Source, address: str, partial: Path, *, doubted: bool = False) -> int:
    """Append to `partial` what it lacks. Returns the bytes received; OSError or HTTPException if the server fails."""
    unit = source.located.output.unit
    start = partial.stat().st_size if partial.is_file() else 0
    if start > unit.size or (start == unit.size and start > 0):
        partial.unlink()
        start = 0
    connection = _Connection(address, source.located.server_name, source.context)
    try:
        headers = {"Authorization": permits.header(source.permit)}
        if start:
            headers["Range"] = f"bytes={start}-"
        if doubted:
            headers["Cache-Control"] = "no-cache"
        connection.request(
            "GET", f"/v1/{source.namespace}/{source.located.output.line or source.run}/{unit.id.hex()}", headers=headers
        )
        response = connection.getresponse()
        if response.status == http.client.OK:
            start = 0
        elif response.status != http.client.PARTIAL_CONTENT:
            why = response.read(_WORDS_BYTES).decode("utf-8", "replace") or response.reason
            raise http.client.HTTPException(f"{response.status} {why}")
        received = 0
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while piece := response.read(_READ_BYTES):
                file.write(piece)
                received += len(piece)
        return received
    finally:
        connection.close()


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate carries a federation name instead of the host's."""

    def __init__(self, address: str, server_name: str, context: ssl.SSLContext) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(host.strip("[]"), int(port), timeout=_TIMEOUT, context=context)
        self._server_name = server_name
        self._tls = context

    def connect(self) -> None:
        """Connect, and demand the server's federation name."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._server_name)
