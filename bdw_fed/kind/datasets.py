"""Datasets' files, put where the node daemons look for them: each cluster gets its own parts and no others."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from bdw_fed.kind.environment import DATA_ROOT, Member
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import run


def require(member: Member, data_root: Path, remedy: str = "") -> None:
    """KindError, with the remedy, if a file of the cluster's datasets is not on this machine."""
    lacking = [path for path in member.files if not (data_root / path).exists()]
    if lacking:
        raise KindError(
            f"{data_root}: {', '.join(lacking)} not found; datasets' paths are relative to it (see --data){remedy}"
        )


def put(member: Member, data_root: Path) -> int:
    """Copy them onto every node of the cluster that does work; returns their bytes. KindError if one is not there."""
    require(member, data_root)
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in member.files:
                archive.add(data_root / path, path, filter=_readable)
            size = sum(entry.size for entry in archive.getmembers())
        for node in member.nodes:
            packed.seek(0)
            run("docker", "exec", node, "mkdir", "-p", DATA_ROOT)
            run("docker", "exec", "-i", node, "tar", "-x", "-C", DATA_ROOT, given=packed)
    return size


def _readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """For the daemons' user, whoever owns the file here."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry
