"""Images on the nodes of a cluster: ours, built from the repository, and those that steps name.

Ours is named by its content, so that one that was built anew is also rolled out anew, and an old one stays what it was.
Images of steps keep their names; they are loaded where this machine's Docker has them, else nodes pull them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import call, run
from bdw_fed.manifests.installation import default_image
from workflow.load import load as load_documents
from workflow.model import Step

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
    return _by_content(name) if _identity(name) else name


def named_in(text: str, file: str) -> list[str]:
    """The images that the steps in a text are run in, each once."""
    steps = (document.model for document in load_documents(text, file).documents)
    found = (step.spec.run.image for step in steps if isinstance(step, Step))
    return list(dict.fromkeys(image for image in found if image))


def identities(names: Iterable[str]) -> dict[str, str]:
    """Those that are on this machine, and what each is just now."""
    return {name: identity for name in names if (identity := _identity(name))}


def pack(names: Sequence[str], archive: Path) -> None:
    """Write images of this machine into a file, what they have in common once. KindError."""
    run("docker", "save", "--output", str(archive), *names)


def load(archive: Path, cluster: str, nodes: Sequence[str]) -> None:
    """Put the images of an archive onto nodes of a cluster. KindError."""
    run("kind", "load", "image-archive", str(archive), "--name", cluster, "--nodes", ",".join(nodes))


def _identity(name: str) -> str:
    """Empty where it is not on this machine."""
    done = call(("docker", "image", "inspect", "--format", "{{.Id}}", name), check=False)
    return done.stdout.decode().strip().removeprefix("sha256:") if done.returncode == 0 else ""


def _by_content(name: str) -> str:
    own = f"bdw-fed:{_identity(name)[:12]}"
    run("docker", "tag", name, own)
    return own
