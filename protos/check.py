"""Lint the .proto files and refuse a change that would break those who speak the previous version.

What counts as previous: on a branch, the commit where it left main; on main itself, the commit before. Where
there is none (a first commit, a shallow clone), that half of the check says so and passes.

A break that is meant is listed in `breaks.md`, with the reason. A line there lets its break pass in the change that
adds the line: one that the previous commit has already excuses nothing, and one that is added without a break is wrong.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BREAKS = Path("protos/breaks.md")
_LINE = re.compile(r"- `(?P<file>[^`]+)`: (?P<said>.+)")


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


def listed(text: str) -> list[str]:
    """The breaks that a text of breaks.md lists, each as `found` words it."""
    return [f"{line['file']}: {line['said']}" for line in map(_LINE.fullmatch, text.splitlines()) if line]


def unexplained(text: str) -> list[str]:
    """Breaks of a text of breaks.md that stand below no heading with a reason."""
    wrong = []
    reason: bool | None = None  # None: no heading came yet
    for line in text.splitlines():
        if line.startswith("## "):
            reason = False
        elif _LINE.fullmatch(line):
            if not reason:
                wrong.append(line)
        elif line.strip() and reason is not None:
            reason = True
    return wrong


def found(buf: str, base: str) -> list[str]:
    """The breaks since a commit. RuntimeError if buf can't say."""
    against = f".git#ref={base},subdir=protos"
    command = [buf, "breaking", "protos", "--against", against, "--error-format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    breaks = []
    for line in done.stdout.splitlines():
        one = json.loads(line)
        breaks.append(f"{Path(one.get('path', 'protos')).name}: {one['message']}")
    if done.returncode and not breaks:
        raise RuntimeError(done.stderr.strip() or f"buf breaking has ended with status {done.returncode}")
    return breaks


def breaking(buf: str, base: str) -> list[str]:
    """What is wrong with what has changed since a commit, in words."""
    now = (ROOT / BREAKS).read_text() if (ROOT / BREAKS).exists() else ""
    before = listed(git("show", f"{base}:{BREAKS}") or "")
    meant = list((Counter(listed(now)) - Counter(before)).elements())
    breaks = found(buf, base)
    hint = f"if that is meant, list it in {BREAKS} with the reason"
    wrong = [f"a break: {each} ({hint})" for each in breaks if each not in meant]
    wrong += [f"{BREAKS} lists a break that is none: {each} (remove the line)" for each in meant if each not in breaks]
    return wrong + [f"{BREAKS} gives no reason below a heading: {line}" for line in unexplained(now)]


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
    wrong = breaking(buf, base)
    for each in wrong:
        print(each)
    return code or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
