"""How results that clusters keep are shown: a line for each step version on each cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.output import Format, plain, show_table, show_values
from bdw_fed.cli.quantities import age, size, wall_clock

if TYPE_CHECKING:
    from bdw_fed.v1 import control_plane_pb2 as pb

InCluster = Annotated[str, Option(("--cluster",), "Only on this cluster.", "NAME", "cluster")]


def show_steps(steps: Sequence[pb.CachedStep], output: Format) -> None:
    """In the form asked for."""
    if output is Format.NAME:
        for name in sorted({line.step for line in steps}):
            print(f"step/{name}")
        return
    if not output.for_people:
        show_values([plain(line) for line in steps], output)
        return
    now = wall_clock()
    rows = []
    for line in steps:
        name, _, version = line.step.rpartition("@")
        row = [name, version, line.cluster, str(line.results), size(line.bytes), str(line.taken)]
        rows.append([*row, age(line.newest, now), age(line.oldest, now)])
    show_table(["STEP", "VERSION", "CLUSTER", ">RESULTS", ">SIZE", ">TAKEN", ">NEWEST", ">OLDEST"], rows)


def name_unreachable(clusters: Sequence[str], so: str) -> None:
    """Say on standard error who could not be asked, and what that means."""
    for cluster in clusters:
        print(f"{cluster} could not be asked just now: {so}", file=sys.stderr)
