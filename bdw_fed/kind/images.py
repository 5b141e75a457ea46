"""Our image: built from the repository, and loaded into the nodes of a cluster.

It is named by its content, so that one that was built anew is also rolled out anew, and an old one stays what it was.
"""

from __future__ import annotations

from pathlib import Path

from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import run, succeeds
from bdw_fed.manifests.installation import default_image

_REPOSITORY = Path(__file__).parents[2]
_DOCKERFILE = Path("deploy/docker/Dockerfile")
_BUILD_SECONDS = 1800.0


def build() -> str:
    """Build it; returns its name. KindError where this is no repository, or it can't be built."""
    if not (_REPOSITORY / _DOCKERFILE).is_file():
        raise KindError("the image is built from the repository, which is not here: name one with --bdw-fed-image")
    name = default_image()
    run(
        *("docker", "build", "--quiet", "--file", str(_REPOSITORY / _DOCKERFILE), "--tag", name, str(_REPOSITORY)),
        seconds=_BUILD_SECONDS,
    )
    return _by_content(name)


def given(name: str) -> str:
    """An image of the user's. One that is on this machine is named by its content too, else clusters pull it."""
    return _by_content(name) if succeeds("docker", "image", "inspect", name) else name


def load(name: str, cluster: str) -> None:
    """Put it onto all nodes of a cluster; nothing where it is, or is to be pulled."""
    if succeeds("docker", "image", "inspect", name):
        run("kind", "load", "docker-image", name, "--name", cluster)


def _by_content(name: str) -> str:
    identity = run("docker", "image", "inspect", "--format", "{{.Id}}", name).strip().removeprefix("sha256:")
    own = f"bdw-fed:{identity[:12]}"
    run("docker", "tag", name, own)
    return own
