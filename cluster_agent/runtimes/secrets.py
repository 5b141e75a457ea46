"""The secrets of a step: named in its definition, kept by each cluster's operator, and given to its workers as files.

Nothing but the name of a secret is in definitions, plans, fragments and logs. Whoever starts a worker puts the contents
into a directory, one file for each, and tells the step where: `BDW_FED_SECRETS` is the directory, `{secret.NAME}` in a
command the file. Where workers are processes they come from a directory of the operator

    <secrets>/<namespace>/<name>/<key>

and are copied, readable for the daemon's user alone, when a worker starts; where workers are pods, Kubernetes mounts
them (see `kubernetes/manifest`). The name of the namespace is part of where they lie, so that no workflow can name
those of another one, or anything else that lies beside them.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Final

from cluster_agent.runtimes.base import Secret, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from wire.digests import bytes_digest

VARIABLE: Final = "BDW_FED_SECRETS"
MOST_BYTES: Final = 1 << 20
_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{secret\.([^{}]*)\}")


def pointed_to(spec: WorkerSpec, directory: PurePath) -> WorkerSpec:
    """A step whose secrets lie in that directory, each under the name that the step gives it."""

    def filled(found: re.Match[str]) -> str:
        return str(directory / found[1]) if found[1] else found[0]

    argv = tuple(_PLACEHOLDER.sub(filled, word) for word in spec.argv)
    return replace(spec, argv=argv, env=(*spec.env, (VARIABLE, str(directory))))


class KeptSecrets:
    """The secrets that an operator keeps in `kept`, given to workers below `given`, which is ours. Blocks; OSError.

    `kept` is None where the operator keeps none. What was given is removed when the daemon starts, and when it ends.
    """

    def __init__(self, kept: Path | None, given: Path) -> None:
        self._kept = kept
        self._given = given
        self.close()

    def give(self, spec: WorkerSpec) -> WorkerSpec:
        """The step, with its secrets as they are now. A final StartError names the one that is missing."""
        named = ";".join(f"{name}={secret}" for name, secret in spec.secrets)
        directory = self._given / bytes_digest(f"{spec.definition};{named}".encode())[:16].hex()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._given.chmod(0o700)
        for name, secret in spec.secrets:
            _write(directory / name, self._content(spec, secret))
        return pointed_to(spec, directory)

    def close(self) -> None:
        """Remove all that was given."""
        shutil.rmtree(self._given, ignore_errors=True)

    def _content(self, spec: WorkerSpec, secret: Secret) -> bytes:
        wanted = f"step {spec.definition} wants key {secret.key} of secret {secret.name}"
        if self._kept is None:
            raise StartError(
                f"{wanted}, and this node has no secrets: start its daemon with --secrets DIRECTORY", final=True
            )
        path = self._kept / secret.namespace / secret.name / secret.key
        try:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise StartError(
                f"{wanted}, and {path} can't be read: {why}; put it there on each node", final=True
            ) from None
        if len(content) > MOST_BYTES:
            raise StartError(
                f"{wanted}, and {path} is larger than {MOST_BYTES >> 20} MiB; that is no secret", final=True
            )
        return content


def _write(path: Path, content: bytes) -> None:
    """Put a file there that only its owner can read; workers that have the former one open keep it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(content)
    fresh.rename(path)
