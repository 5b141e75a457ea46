"""`kind up`: the federation on Kubernetes clusters of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Argument, Option
from bdw_fed.cli.options import Output
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed kind up                          edge1, edge2 and cloud1, and the flights example on them
  bdw-fed kind up topology.yaml            a kind cluster for each cluster of the topology
  bdw-fed kind up --image kindest/node:v1.34.0
"""
KindState = Annotated[
    Path | None,
    Option(("--state",), "Where what was made is kept. Default: BDW_FED_KIND_STATE, else ~/.local/state/bdw-fed-kind.",
           "DIR"),
]  # fmt: skip


def command(
    topology: Annotated[Path | None, Argument("YAML file with a topology. Default: a small one.", "FILE")] = None,
    data: Annotated[
        Path | None,
        Option(("--data",), "What datasets' paths are relative to. Default: the topology's directory.", "DIR"),
    ] = None,
    image: Annotated[
        str | None, Option(("--image",), "Node image. Default: BDW_FED_KIND_IMAGE, else kind's own.", "IMAGE")
    ] = None,
    bdw_fed_image: Annotated[
        str | None, Option(("--bdw-fed-image",), "Our image. Default: built from the repository.", "IMAGE")
    ] = None,
    no_example: Annotated[bool, Option(("--no-example",), "Leave the flights example out.")] = False,
    to: Annotated[Path, Option(("--to",), "Where the example's results go.", "DIR")] = Path("out/flights"),
    output: Output = Format.TABLE,
    state: KindState = None,
) -> int:
    """Make a kind cluster for each cluster of the topology, and the federation on them: hub and etcd in the cloud.

    Then the flights example runs, if no topology was named. Safe to run twice: it does what is missing, and goes on
    where it failed. 'bdw-fed kind down' takes it all away.
    """
    from bdw_fed.cli.kind import bring_up

    return bring_up(
        state, topology, data, node_image=image, image=bdw_fed_image, example=not no_example, to=to, form=output
    )
