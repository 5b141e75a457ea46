"""`status`: is all well?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.cli.exits import NEGATIVE, OK, UNAVAILABLE
from bdw_fed.cli.options import Namespace, Output, State, connect
from bdw_fed.cli.output import Format, plain, show_table, show_values
from bdw_fed.cli.quantities import age, duration, size, wall_clock

if TYPE_CHECKING:
    from bdw_fed.embedded.control import Running
    from bdw_fed.v1 import control_plane_pb2 as pb

EXAMPLES = """\
  bdw-fed status
  bdw-fed status -o json | jq '.clusters[] | {name, state}'
"""
_TIMEOUT = 5.0


def command(output: Output = Format.TABLE, namespace: Namespace = None, state: State = None) -> int:
    """Show the clusters and nodes as the hub sees them and, on its own machine, the federation's processes.

    Exits 0 if all of it is ready, 1 if something is not, 4 if the hub can't be reached.
    """
    import os

    from bdw_fed.cli.listing import cluster_rows
    from bdw_fed.client.connection import default_state
    from bdw_fed.client.errors import NoProfile, Unavailable

    place = state or (None if os.environ.get("BDW_FED_HUB") else default_state())
    running, processes = _processes(place)
    clusters = []
    trouble = ""
    try:
        with connect(state, namespace) as client:
            clusters = list(client.status(timeout=_TIMEOUT).clusters)
    except (Unavailable, NoProfile) as error:
        trouble = str(error)
    wanted = [item for item in clusters if item.zone]  # the others are in no topology: nothing is planned to them
    ready = not trouble and all(item.state == "ready" and all(n.ready for n in item.nodes) for item in wanted)
    ready = ready and all(process["state"] == "ready" for process in processes)
    if not output.for_people:
        values = {"ready": ready, "clusters": [plain(item) for item in clusters], "processes": processes}
        if trouble:
            values["hub"] = trouble
        show_values(values, output if output is Format.YAML else Format.JSON)
        return OK if ready else UNAVAILABLE if trouble else NEGATIVE
    if running is not None:
        show_table(*_process_rows(processes))
        print()
    elif place is not None:
        print(f"no federation runs in {place}\n")
    if trouble:
        print(trouble)
        return UNAVAILABLE
    show_table(*cluster_rows(clusters, output is Format.WIDE))
    _warn_of_clocks(clusters)
    print("\nready" if ready else "\nnot ready")
    return OK if ready else NEGATIVE


def _warn_of_clocks(clusters: list[pb.ClusterStatus]) -> None:
    from wire.clocks import is_wrong

    for cluster in clusters:
        if cluster.HasField("clock_ahead") and is_wrong(cluster.clock_ahead):
            way = "ahead of" if cluster.clock_ahead > 0 else "behind"
            apart = duration(abs(cluster.clock_ahead))
            print(f"\n{cluster.name}: its clock is {apart} {way} the hub's: set the one that is wrong")


def _processes(place: Path | None) -> tuple[Running | None, list[dict[str, Any]]]:
    """The supervisor of a state directory, and all processes with their memory, itself first."""
    if place is None:
        return None, []
    from bdw_fed.embedded import control, linux

    running = control.look(place.resolve())
    if running is None:
        return None, []
    own: dict[str, Any] = {
        "kind": "supervisor",
        "name": "supervisor",
        "pid": running.pid,
        "state": "ready",
        "starts": 1,
        "since": 0.0,
    }
    found = [own]
    for process in running.processes:
        kept = ("name", "pid", "state", "starts", "since", "log")
        found.append({"kind": process["role"], **{key: process[key] for key in kept}})
    for process in found:
        memory = linux.memory_of(process["pid"]) if process["pid"] else None
        process["resident_bytes"] = memory.resident if memory else 0
        process["proportional_bytes"] = memory.proportional if memory else 0
    return running, found


def _process_rows(processes: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    now = wall_clock()
    rows = []
    for process in processes:
        row = [process["name"], str(process["pid"] or "-"), process["state"], str(process["starts"])]
        row += [age(process["since"], now), size(process["resident_bytes"]), size(process["proportional_bytes"])]
        rows.append(row)
    rows.append(
        [
            "all",
            "",
            "",
            "",
            "",
            size(sum(process["resident_bytes"] for process in processes)),
            size(sum(process["proportional_bytes"] for process in processes)),
        ]
    )
    return ["PROCESS", ">PID", "STATE", ">STARTS", ">UP", ">RESIDENT", ">OWN SHARE"], rows
