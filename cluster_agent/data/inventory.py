"""What a disk store holds, found out at start from its directories: a unit's inode tells its content.

After a crash of the daemon all that has its name is whole, since names are given last. After a crash of the machine it
need not be: the file system may have kept the name and lost the bytes. So when the machine has been started since the
last time, every content is checked against its digest before it is believed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster_agent.data.base import Content, UnitKey
from cluster_agent.data.proving import DISKS_FAULT, digest_of
from cluster_agent.data.references import REFERENCE, read_reference
from wire.digests import DIGEST_BYTES, ID_BYTES

Runs = dict[tuple[str, str], dict[bytes, Content]]
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def take_inventory(root: Path, runs: Runs) -> list[Content]:
    """All content below `root` that units name; those not yet in `runs` go there, the rest is removed. Blocks."""
    by_inode = _contents(root)
    by_object: dict[str, Content] = {}
    for key, path, inode in _unit_files(root / "units"):
        named = read_reference(path) if path.suffix == REFERENCE else by_inode.get(inode)
        if named is not None and named.away:
            named = by_object.setdefault(named.away, named)
        units = runs.setdefault((key.namespace, key.run), {})
        if named is None or key.unit in units:  # it was moved, when a crash came between: the earlier inventory counts
            path.unlink()
            continue
        named.add_name(key)
        units[key.unit] = named
    for content in by_inode.values():
        if not content.names:
            content.file.unlink()
    return [content for content in by_inode.values() if content.names]


def _contents(root: Path) -> dict[int, Content]:
    found: dict[int, Content] = {}
    for directory in os.scandir(root / "content"):
        for entry in os.scandir(directory.path):
            digest = _from_hex(entry.name.partition(".")[0], DIGEST_BYTES)
            if digest is not None:
                status = entry.stat(follow_symlinks=False)
                # Ours are read-only; what is writable is a link to a dataset's file.
                foreign = stat.S_IMODE(status.st_mode) != 0o444
                content = Content(digest, status.st_size, Path(entry.path), status.st_mtime_ns, foreign)
                found[status.st_ino] = content
    if _machine_was_restarted(root):
        for inode in _damaged(found):
            found.pop(inode).file.unlink()
    return found


def _damaged(contents: dict[int, Content]) -> list[int]:
    """The inodes of those that are not what their digest says; the others are proven."""
    damaged = []
    with ThreadPoolExecutor(thread_name_prefix="check") as threads:
        digests = threads.map(_digest, contents.values())
        for (inode, content), digest in zip(contents.items(), digests, strict=True):
            if digest == content.digest:
                content.proven = time.monotonic()
            else:
                damaged.append(inode)
    return damaged


def _digest(content: Content) -> bytes:
    try:
        return digest_of(content.file)
    except OSError as error:
        if error.errno in DISKS_FAULT:
            return b""
        raise


def _machine_was_restarted(root: Path) -> bool:
    """Since the last inventory, which this one is from now on."""
    try:
        now = _BOOT_ID.read_text()
    except OSError:
        return True
    last = root / "boot"
    same = last.exists() and last.read_text() == now
    last.write_text(now)
    return not same


def _unit_files(units: Path) -> Iterator[tuple[UnitKey, Path, int]]:
    for namespace in os.scandir(units):
        for run in os.scandir(namespace.path):
            for entry in os.scandir(run.path):
                unit = _from_hex(entry.name.partition(".")[0], ID_BYTES)
                if unit is not None:
                    yield UnitKey(namespace.name, run.name, unit), Path(entry.path), entry.inode()


def _from_hex(name: str, length: int) -> bytes | None:
    try:
        value = bytes.fromhex(name)
    except ValueError:
        return None
    return value if len(value) == length else None
