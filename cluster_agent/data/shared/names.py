"""Under which names contents lie in a shared place.

    units/<namespace>/<run>/<cluster>/<unit hex>   a unit of a run, put there by a node of the cluster
    content/<digest hex>                           a content, whoever needs it

A cluster writes and deletes in its own directories only, so that it can sweep them when a run is over; others read.
"""

from __future__ import annotations

import re

from cluster_agent.data.base import path_part

_UNIT = re.compile(r"[0-9a-f]{32}")


def of_run(namespace: str, run: str, cluster: str) -> str:
    """The directory of all that a cluster puts there for a run. BadNameError."""
    return f"units/{path_part(namespace)}/{path_part(run)}/{path_part(cluster)}/"


def of_unit(namespace: str, run: str, cluster: str, unit: bytes) -> str:
    """A unit's name. BadNameError."""
    return of_run(namespace, run, cluster) + unit.hex()


def of_content(digest: bytes) -> str:
    """The name of content that is told by its digest alone."""
    return f"content/{digest.hex()}"


def unit_in(name: str) -> bytes | None:
    """The unit of a name that `of_unit` made."""
    last = name.rpartition("/")[2]
    return bytes.fromhex(last) if _UNIT.fullmatch(last) else None


def directory(name: str) -> str:
    """The directory that a name lies in, with '/' at its end."""
    return name[: name.rindex("/") + 1]
