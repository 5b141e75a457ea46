"""`server manifest`: what to apply where the hub is to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import OK, RefusedError

EXAMPLES = """\
  bdw-fed server manifest --directory ~/federation | kubectl --context cloud apply -f -
"""
Installation = Annotated[
    Path,
    Option(("--directory",), "Where authorities and overlays are kept. Keep it safe: its keys make members.", "DIR"),
]
Image = Annotated[str | None, Option(("--image",), "Our image. Default: bdw-fed of this version.", "IMAGE")]
Space = Annotated[str, Option(("--kubernetes-namespace",), "Where our pods are.", "NAME")]


def command(
    directory: Installation,
    image: Image = None,
    kubernetes_namespace: Space = "bdw-fed",
    no_node_port: Annotated[
        bool, Option(("--no-node-port",), "Reachable in its cluster only, or by what you add yourself.")
    ] = False,
    join: Annotated[
        bool, Option(("--join",), "Let clusters join with tokens. The hub then gets the authority's key, in a Secret.")
    ] = False,
) -> int:
    """Print what makes a hub with its etcd: apply it with kubectl. The first time it makes the federation's authority.

    Your own credentials, for BDW_FED_CREDENTIALS, are then in DIR/credentials/user-local.
    """
    from bdw_fed.manifests.errors import ManifestError
    from bdw_fed.manifests.installation import Installation as Kept
    from bdw_fed.manifests.installation import default_image, render
    from bdw_fed.manifests.overlays import HubPlace

    place = HubPlace(
        image=image or default_image(), namespace=kubernetes_namespace, node_port=not no_node_port, join=join
    )
    try:
        print(render(Kept(directory).hub(place)), end="")
    except ManifestError as error:
        raise RefusedError(str(error)) from error
    return OK
