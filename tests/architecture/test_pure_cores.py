"""The rules of the design that import-linter cannot see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("topology", "workflow", "wire", "control_plane", "cluster_agent", "simulator", "bdw_fed")
IMPURE = frozenset(
    [
        "aiohttp",
        "asyncio",
        "datetime",
        "grpc",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "sqlite3",
        "structlog",
        "subprocess",
        "threading",
        "time",
        "uuid",
    ]
)


def impurities(source: str) -> list[str]:
    """What a core may not do and does: one `line: what` each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        found += [f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in IMPURE]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.append(f"{node.lineno}: calls open()")
    return found


def parts(core: Path) -> set[Path]:
    """A core, and the modules of its package that it stands on."""
    found, open_ends = {core}, [core]
    while open_ends:
        for node in ast.walk(ast.parse(open_ends.pop().read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    path = ROOT / f"{name.replace('.', '/')}.py"
                    if path.is_relative_to(core.parent) and path not in found and path.is_file():
                        found.add(path)
                        open_ends.append(path)
    return found


CORES = sorted(core for package in PACKAGES for core in (ROOT / package).rglob("core.py"))
OBJECTS = ROOT / "cluster_agent/runtimes/kubernetes/api"  # where a moment is a value that Kubernetes told


def test_a_core_has_no_clock_no_chance_and_no_io() -> None:
    faults = {
        str(part.relative_to(ROOT)): [
            fault
            for fault in impurities(part.read_text())
            if not (part.is_relative_to(OBJECTS) and fault.endswith("imports datetime"))
        ]
        for core in CORES
        for part in parts(core)
    }
    assert {part: found for part, found in faults.items() if found} == {}
    assert ROOT / "cluster_agent/node/admission.py" in parts(ROOT / "cluster_agent/node/core.py")


def test_the_check_sees_what_it_is_there_for() -> None:
    bad = "import os.path\nfrom time import monotonic\nimport json, uuid\nopen('x')\n"
    assert [line.split(": ", 1)[1] for line in impurities(bad)] == [
        "imports os.path",
        "imports time",
        "imports uuid",
        "calls open()",
    ]
    assert impurities("import enum\nfrom .base import time\nfile.open()\n") == []


def test_importing_the_protos_costs_nothing_else() -> None:
    """A program that speaks our protos does not pay for the models, the command line or the data path."""
    script = """
import importlib, pkgutil, sys
import bdw_fed.v1
for module in pkgutil.iter_modules(bdw_fed.v1.__path__, "bdw_fed.v1."):
    importlib.import_module(module.name)
print(sorted({"pydantic", "typer", "aiohttp"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
