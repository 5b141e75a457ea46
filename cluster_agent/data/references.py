"""Units whose bytes lie elsewhere: a file in the place of the hard link says what they are and where.

That is a dataset's file on another file system, which can't have a further name on ours, or an object in the store that
the cluster has for what is cold. It is JSON, because a person may have to understand it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from cluster_agent.data.base import Content

REFERENCE = ".ref"


def reference_text(content: Content) -> str:
    """What says where the bytes of content are."""
    told: dict[str, object] = {"digest": content.digest.hex(), "size": content.size}
    if content.away:
        told["object"] = content.away
    else:
        told |= {"path": str(content.file), "mtime_ns": content.stamp}
    return json.dumps(told)


def read_reference(file: Path) -> Content | None:
    """What `reference_text` has said; None if that can't be understood."""
    try:
        told = json.loads(file.read_text())
        digest = bytes.fromhex(told["digest"])
        if "object" in told:
            return Content(digest, told["size"], away=told["object"])
        return Content(digest, told["size"], Path(told["path"]), told["mtime_ns"], foreign=True, shared=False)
    except (ValueError, KeyError):
        return None


@contextlib.asynccontextmanager
async def new_references(
    fresh: Callable[[bytes], Path],
    in_thread: Callable[[Callable[[Path], object], Path], Awaitable[object]],
    content: Content,
    objects: Sequence[str],
) -> AsyncIterator[list[Path]]:
    """A new reference to each of these objects, synced, at places of their own; those that are not moved away go."""
    paths = [fresh(content.digest) for _ in objects]
    try:
        for path, name in zip(paths, objects, strict=True):
            text = reference_text(Content(content.digest, content.size, away=name))
            await in_thread(partial(_write_synced, text), path)
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _write_synced(text: str, path: Path) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
