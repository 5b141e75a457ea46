"""What could not be replaced if a cluster were lost, told as warnings of the plan: the data that lies there alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.planner.base import World
from control_plane.planner.sources import Data
from workflow.graph import disconnect
from workflow.model import Workflow


def irreplaceable(workflow: Workflow, data: Data, executors: Mapping[str, Sequence[str]], world: World) -> list[str]:
    """One sentence for each cluster that takes part and should be replaced, but can't be."""
    taking_part = {cluster for clusters in executors.values() for cluster in clusters}
    wanted = {cluster for cluster in taking_part if disconnect(workflow, world.clusters[cluster].disconnect).replace}
    if workflow.spec.policy.reserve != "none":
        return [
            f"{cluster} will not be replaced if it is lost: the run reserves its slots" for cluster in sorted(wanted)
        ]
    found = []
    for cluster in sorted(wanted):
        alone = sorted(name for name in data.parts if data.only_there(name, cluster))
        if alone:
            found.append(
                f"{cluster} can't be replaced if it is lost: {', '.join(alone)} is read there and lies nowhere else; "
                "the run waits for it"
            )
    return found
