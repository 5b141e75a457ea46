"""Running docker, kind and kubectl: what they print, or an error that says what was asked and what to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from bdw_fed.kind.errors import KindError

_SAID = 2000  # characters of a program's words that are passed on
_REMEDIES = {
    "docker": "install Docker, https://docs.docker.com/engine/install/",
    "kind": "install kind, https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "install kubectl, https://kubernetes.io/docs/tasks/tools/",
}
_KNOWN = {
    "Cannot connect to the Docker daemon": "start the Docker engine",
    "permission denied while trying to connect": "your user may not use Docker: see 'docker context' and group docker",
    "No such image": "build it, or name another one",
    "pull access denied": "the image is not on this machine and can't be pulled: name another one with --image",
    "no space left on device": "free some disk space: docker system df",
    "too many open files": "raise fs.inotify.max_user_instances, https://kind.sigs.k8s.io/docs/user/known-issues/",
}


def require() -> None:
    """KindError if one of the programs is missing, or Docker does not answer."""
    for program, remedy in _REMEDIES.items():
        if shutil.which(program) is None:
            raise KindError(f"{program} is not installed, or not on PATH; {remedy}")
    run("docker", "info", "--format", "{{.ServerVersion}}")


def run(
    *words: str,
    given: bytes | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """What the program printed. KindError if it is missing, fails, or takes longer than `seconds`."""
    return call(words, given=given, environment=environment, seconds=seconds).stdout.decode(errors="replace")


def call(
    words: Sequence[str],
    *,
    given: bytes | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end. With `check` any other exit code than 0 is a KindError."""
    try:
        done = subprocess.run(
            list(words),
            input=given if isinstance(given, bytes) else None,
            stdin=None if isinstance(given, bytes) else given or subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        remedy = _REMEDIES.get(words[0], f"install {words[0]}")
        raise KindError(f"{words[0]} is not installed, or not on PATH; {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise KindError(f"'{_short(words)}' did not end within {seconds:g} s") from error
    if check and done.returncode != 0:
        raise KindError(_explained(words, (done.stderr or done.stdout).decode(errors="replace").strip()))
    return done


def _explained(words: Sequence[str], said: str) -> str:
    remedy = next((remedy for sign, remedy in _KNOWN.items() if sign in said), "")
    return f"'{_short(words)}' failed: {said[-_SAID:]}" + (f"\n  {remedy}" if remedy else "")


def _short(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 120 else f"{text[:117]}…"
