"""`--agent NAME`: where the agent of a cluster listens, and as whom it is expected to answer.

On the machine of an embedded federation its supervisor knows, hub or no hub. Elsewhere the hub is asked, and where that
is away the address has to be typed: NAME@HOST:PORT, where NAME is what the agent's certificate must say.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bdw_fed.cli.exits import UsageError
from bdw_fed.client.connection import Profile, default_state, find_profile
from bdw_fed.client.errors import NotFound, Unavailable

_HUB_SECONDS = 5.0


def agent_profile(state: Path | None, word: str) -> Profile:
    """The profile for the agent that was named. UsageError, NotFound, Unavailable."""
    name, at, address = word.partition("@")
    if not name or (at and not address.rpartition(":")[0]):
        raise UsageError(f"--agent {word}: expected a cluster's name, or NAME@HOST:PORT")
    profile = find_profile(state)
    address = address or _on_this_machine(state, name) or _by_the_hub(profile, name)
    return replace(profile, hub=address, agent=name)


def _on_this_machine(state: Path | None, name: str) -> str:
    if state is None and os.environ.get("BDW_FED_HUB"):
        return ""
    from bdw_fed.embedded import control

    running = control.look((state or default_state()).resolve())
    for process in running.processes if running is not None else ():
        if process["role"] == "agent" and process["cluster"] == name and process["addresses"]:
            return str(process["addresses"]["peers"])
    return ""


def _by_the_hub(profile: Profile, name: str) -> str:
    from bdw_fed.client import SyncClient

    try:
        with SyncClient(profile) as client:
            clusters = {cluster.name: cluster for cluster in client.status(timeout=_HUB_SECONDS).clusters}
    except Unavailable as error:
        raise Unavailable(f"{error}; to ask an agent without it, name its address: --agent {name}@HOST:PORT") from error
    if name not in clusters:
        raise NotFound(f"there is no cluster {name} (there are: {', '.join(clusters) or 'none'})")
    if not clusters[name].gateway_address:
        raise NotFound(f"the agent of {name} has not said where it can be reached: --agent {name}@HOST:PORT")
    return clusters[name].gateway_address
