"""A sample: what a step is tried on, and what is expected of it.

<sample>/in/PORT.csv          one unit                <sample>/expected/PORT.csv     the one unit of an output
        /in/PORT/*            many, in the order of names             /expected/PORT/*    all of its units
        /in/PORT/             one, of a port of directories           /expected/PORT/     the one unit of such an output
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bdw_fed.steps.errors import StepError
from topology.nearest import did_you_mean
from workflow.formats import DIRECTORY
from workflow.model import InputPort, OutputPort, Step

_SHOWN = 60


@dataclass(frozen=True)
class Sample:
    """What there is by input port (a list where there are many), and by output port where something is expected."""

    inputs: Mapping[str, Path | Sequence[Path]]
    expected: Mapping[str, Sequence[Path]] | None


def read_sample(directory: Path, step: Step) -> Sample:
    """The sample in a directory, for a step. StepError."""
    if not (directory / "in").is_dir():
        raise StepError(f"{directory}/in: no such directory; expected the sample's inputs there, a file for each port")
    inputs: dict[str, Path | Sequence[Path]] = {}
    for port, path in _by_port(directory / "in", step.spec.inputs).items():
        inputs[port] = _units(path) if path.is_dir() and step.spec.inputs[port].format != DIRECTORY else path
    for name, declared in step.spec.inputs.items():
        if name not in inputs:
            if not declared.optional:
                wanted = f"a file {name}{_suffix(declared)}, or a directory {name} with many"
                wanted = f"a directory {name}" if declared.format == DIRECTORY else wanted
                raise StepError(f"{directory}/in has nothing for input {name}; expected {wanted}")
            inputs[name] = ()
    expected = None
    if (directory / "expected").is_dir():
        found = _by_port(directory / "expected", step.spec.outputs)
        whole = {port for port, declared in step.spec.outputs.items() if declared.format == DIRECTORY}
        expected = {
            port: _units(path) if path.is_dir() and port not in whole else [path] for port, path in found.items()
        }
    return Sample(inputs, expected)


def difference(expected: Sequence[Path], made: Sequence[Path]) -> str:
    """Where the units of an output are not what was expected; empty if they are."""
    if len(expected) != len(made):
        return f"expected {_count(expected)}, made {_count(made)}"
    for number, (wanted, found) in enumerate(zip(expected, made, strict=True), 1):
        differ = _differ_within(wanted, found) if found.is_dir() else _differ(wanted, found)
        if differ:
            return (f"unit {number}: " if len(expected) > 1 else "") + differ
    return ""


def _differ(expected: Path, made: Path) -> str:
    if not expected.is_file():
        return f"expected a directory {expected.name}, made a file"
    wanted, found = expected.read_bytes(), made.read_bytes()
    return _first_difference(wanted, found) if wanted != found else ""


def _differ_within(expected: Path, made: Path) -> str:
    """The first difference between two directories."""
    if not expected.is_dir():
        return f"expected a file {expected.name}, made a directory"
    wanted, found = _below(expected), _below(made)
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            return f"{name}: expected, and not made"
        if name not in wanted:
            return f"{name}: made, and not expected"
        if found[name].is_dir() != wanted[name].is_dir():
            return f"{name}: one is a directory, and one a file"
        if found[name].is_file() and (differ := _differ(wanted[name], found[name])):
            return f"{name}: {differ}"
    return ""


def _below(directory: Path) -> dict[str, Path]:
    return {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}


def _by_port(directory: Path, ports: Mapping[str, InputPort | OutputPort]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        port = path.name.partition(".")[0]
        if not port:
            continue  # hidden
        if port not in ports:
            remedy = did_you_mean(port, ports, "the ports are") or "the step has none there"
            raise StepError(f"{path}: the step has no port {port}; {remedy}")
        if port in found:
            raise StepError(f"{path}: there is {found[port].name} for port {port} as well; keep one of them")
        found[port] = path
    return found


def _units(directory: Path) -> list[Path]:
    """The files of a directory in the order in which a step makes units of one."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(files, key=lambda path: path.relative_to(directory).as_posix())


def _first_difference(expected: bytes, made: bytes) -> str:
    wanted, found = expected.split(b"\n"), made.split(b"\n")
    for number, (left, right) in enumerate(zip(wanted, found, strict=False), 1):
        if left != right:
            return f"line {number}: expected {_shown(left)}, made {_shown(right)}"
    return f"line {min(len(wanted), len(found)) + 1}: expected {len(wanted)} lines, made {len(found)}"


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _count(units: Sequence[Path]) -> str:
    return f"{len(units)} unit{'s' if len(units) != 1 else ''}"


def _suffix(port: InputPort) -> str:
    return f".{port.format}" if port.format else ""
