"""Lint the .proto files and refuse a change that would break those who speak the previous version.

What counts as previous: on a branch, the commit where it left main; on main itself, the commit before. Where
there is none (a first commit, a shallow clone), that half of the check says so and passes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def git(*args: str) -> str | None:
    """What git answers, or None where it refuses."""
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def previous() -> str | None:
    """The commit to compare with, if it has protos at all."""
    head = git("rev-parse", "HEAD")
    base = git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main")
    if base is None or base == head:
        base = git("rev-parse", "--verify", "--quiet", "HEAD^")
    if not base or not git("ls-tree", "-r", "--name-only", base, "--", "protos/bdw_fed"):
        return None
    return base


def main() -> int:
    """Run buf; returns the exit code."""
    if not list((ROOT / "protos").rglob("*.proto")):
        print("no .proto files yet")
        return 0
    buf = str(Path(sys.executable).parent / "buf")
    code = subprocess.run([buf, "lint", "protos"], cwd=ROOT, check=False).returncode
    base = previous()
    if base is None:
        print("no previous commit with .proto files here: breaking changes are not checked")
        return code
    against = f".git#ref={base},subdir=protos"
    breaking = subprocess.run([buf, "breaking", "protos", "--against", against], cwd=ROOT, check=False)
    return code or breaking.returncode


if __name__ == "__main__":
    sys.exit(main())
