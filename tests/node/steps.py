"""The code of the steps that the node daemon's tests execute."""

from __future__ import annotations

from pathlib import Path

from tests.node.cluster import Cluster

STEPS = """
import os, sys, subprocess, time
from pathlib import Path

def upper(rows: Path, out, times=1):
    print("hello from", os.environ["BDW_FED_STEP"])
    out["rows"].write_text(rows.read_text().upper() * times)

def plus(unit, wide=1):
    return "%d" % (unit + 1) * wide

def total(units):
    return sum(units)

def join(parts, out):
    out["all"].write_text("|".join(p.read_text() for p in parts))

def many(out):
    out["files"].mkdir()
    for name in "cab":
        (out["files"] / name).write_text(name)

def fail(out):
    print("about to fail", file=sys.stderr)
    raise ValueError("no such airport: ‘XYZ’")

def nothing(out):
    pass

def greedy(out):
    out["x"] = bytearray(1 << 30)

def flood(out):
    with (Path.cwd() / "tmp" / "big").open("wb") as f:
        while True:
            f.write(bytes(1 << 20))

def die(out):
    os.kill(os.getpid(), 9)

def crash(out):
    os.abort()

def spin(out):
    while True:
        pass

def escape(out):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("waiting", child.pid, flush=True)
    while True:
        time.sleep(1)

def litter(out):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    p = subprocess.Popen(["sleep", "1000"])
    out["pids"].write_text(str(p.pid))

def pid(out):
    print("my pid")
    out["pid"].write_text(str(os.getpid()))

def wait(gate, out):
    print("waiting", os.getpid(), flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    out["pid"].write_text(str(os.getpid()))

def talk(out, lines=10, width=10):
    for number in range(lines):
        print(f"{number:0{width}}")
    print("the end", file=sys.stderr)

def leave(out, code=3):
    sys.exit(code)

def pieces(out):
    for number in range(40):
        (Path("tmp") / str(number)).write_bytes(bytes(1 << 20))

def add_one(unit, out):
    out["unit"].write_text(str(int(unit.read_text()) + 1))

def count(unit, out, dies_at="", slow_from="", large_from="", gate=""):
    number = int(unit.read_text())
    if str(number) == dies_at:
        os.kill(os.getpid(), 9)
    if str(number) == slow_from:
        print("waiting", os.getpid(), flush=True)
        while not os.path.exists(gate):
            time.sleep(0.01)
    large = large_from and number + 1 >= int(large_from)
    out["unit"].write_text(str(number + 1) + " " * 20_000 * bool(large))

def heavy(unit, out, large_at="3", dies_at="", waits_at="", gate=""):
    text = unit.read_text()
    if text == dies_at:
        os.kill(os.getpid(), 9)
    if text == waits_at:
        print("waiting", os.getpid(), flush=True)
        while not os.path.exists(gate):
            time.sleep(0.01)
    out["unit"].write_text(text * (30_000 if text == large_at else 1))

def scribble(rows, out):
    os.chmod(rows, 0o644)
    rows.write_text("mine now")
"""


def bundle(edge: Cluster, tmp_path: Path) -> bytes:
    """The digest of a bundle with all of them, which the fake agent has."""
    directory = tmp_path / "steps"
    directory.mkdir(exist_ok=True)
    (directory / "steps.py").write_text(STEPS)
    return edge.agent.add_bundle(directory)
