"""Units whose bytes lie elsewhere: a file in the place of the hard link says what they are and where.

That is a dataset's file on another file system, which can't have a further name on ours, or an object in the store that
the cluster has for what is cold. It is JSON, because a person may have to understand it.
"""

from __future__ import annotations

import json
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
