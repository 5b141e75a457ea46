"""The topologies that earlier starts have applied in a state directory, and of which nothing runs here any more.

Whoever starts one example after the other in the same state directory means the newest. An earlier topology that stayed
would leave it open in which one a workflow is to run. So what `up` has applied, `up` takes away with the next one: the
object alone, since its author has the file, while runs and data stay for when it is started again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient

_FILE = "topologies.json"


def take_away(client: SyncClient, state: Path, name: str) -> None:
    """Delete those that were applied here before the one of this name, which is; one that is in use stays."""
    from bdw_fed.client.errors import Conflict, NotFound

    file = state / _FILE
    applied: list[str] = json.loads(file.read_text()) if file.is_file() else []
    left = []
    for former in applied:
        if former == name:
            continue
        try:
            client.delete("Topology", former)
        except NotFound:
            pass
        except Conflict:
            left.append(former)  # a run goes on in it
    if [*left, name] != applied:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps([*left, name]))
        fresh.replace(file)
