"""`kind up`: the federation on Kubernetes clusters of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Data, Output, TopologyFile
from bdw_fed.cli.output import Format

EXAMPLES = """\
  bdw-fed kind up                          edge1, edge2 and cloud1, and the examples on them
  bdw-fed kind up topology.yaml            a kind cluster for each cluster of the topology
  bdw-fed kind up --image kindest/node:v1.34.0
"""
KindState = Annotated[
    Path | None,
    Option(("--state",), "Where what was made is kept. Default: BDW_FED_KIND_STATE, else ~/.local/state/bdw-fed-kind.",
           "DIR"),
]  # fmt: skip


def command(
    topology: TopologyFile = None,
    data: Data = None,
    image: Annotated[
        str | None, Option(("--image",), "Node image. Default: BDW_FED_KIND_IMAGE, else kind's own.", "IMAGE")
    ] = None,
    bdw_fed_image: Annotated[
        str | None, Option(("--bdw-fed-image",), "Our image. Default: built from the repository.", "IMAGE")
    ] = None,
    load: Annotated[
        list[str] | None,
        Option(("--load",), "Image of steps, on this machine, to put onto the nodes. Repeatable.", "IMAGE"),
    ] = None,
    storage_credentials: Annotated[
        Path | None,
        Option(
            ("--storage-credentials",),
            "Where the credentials are that the topology's storage names, NAME/FILE below it.",
            "DIRECTORY",
        ),
    ] = None,
    no_example: Annotated[bool, Option(("--no-example",), "Leave the examples out.")] = False,
    to: Annotated[Path, Option(("--to",), "Where the flights example's results go.", "DIR")] = Path("out/flights"),
    output: Output = Format.TABLE,
    state: KindState = None,
) -> int:
    """Make a kind cluster for each cluster of the topology, and the federation on them: hub and etcd in the cloud.

    Then the flights example and the chain of the thesis run, if no topology was named. Safe to run twice: it does what
    is missing, and goes on where it failed. 'bdw-fed kind down' takes it all away.
    """
    import os

    from bdw_fed.cli.kind import bring_up
    from bdw_fed.kind.preparing import Wishes

    node_image = image or os.environ.get("BDW_FED_KIND_IMAGE", "")
    wishes = Wishes(topology, data, node_image, bdw_fed_image or "", tuple(load or ()), storage_credentials)
    return bring_up(state, wishes, examples=not no_example, to=to, form=output)
