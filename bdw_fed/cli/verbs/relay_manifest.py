"""`relay manifest`: what to apply where a relay is to run."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import OK, RefusedError
from bdw_fed.cli.verbs.server_manifest import Image, Installation, Space

EXAMPLES = """\
  bdw-fed relay manifest --directory ~/federation --name r1 | kubectl --context cloud apply -f -
"""


def command(
    directory: Installation,
    name: Annotated[str, Option(("--name",), "Name of the relay in the topology.", "NAME")],
    image: Image = None,
    kubernetes_namespace: Space = "bdw-fed",
    no_node_port: Annotated[
        bool, Option(("--no-node-port",), "Reachable in its cluster only, or by what you add yourself.")
    ] = False,
) -> int:
    """Print what makes a relay: apply it with kubectl where the clusters that need it can open connections to.

    It is then at port 30447 of every node; say HOST:30447 in the topology's `relays`. Run it again every two months,
    for certificates that end.
    """
    from bdw_fed.manifests.errors import ManifestError
    from bdw_fed.manifests.installation import Installation as Kept
    from bdw_fed.manifests.installation import default_image, render
    from bdw_fed.manifests.overlays import RelayPlace

    place = RelayPlace(
        name=name, image=image or default_image(), namespace=kubernetes_namespace, node_port=not no_node_port
    )
    try:
        print(render(Kept(directory).relay(place)), end="")
    except ManifestError as error:
        raise RefusedError(str(error)) from error
    return OK
