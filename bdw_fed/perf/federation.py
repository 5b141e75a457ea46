"""The federation that a case measures, in a directory of its own: one cluster of one node with two processors, unless
the case brings a topology.

It is started like any embedded one, ends with this process whatever happens, and its directory is removed. Times are
Unix times: those of the events are taken by the coordinator after the commit of what they tell, on this same machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bdw_fed.client import Document, SyncClient
from bdw_fed.embedded import control
from bdw_fed.embedded.layout import STORAGE_CREDENTIALS
from bdw_fed.embedded.topologies import choose
from bdw_fed.perf.base import PerfError
from bdw_fed.v1 import model_pb2 as model
from workflow.bundle import pack

SCRATCH = Path("/var/tmp")  # noqa: S108 - a directory of our own is made in it; /tmp is in memory on many machines
DATASET = "input"
FILE = "input.txt"
_TOPOLOGY = f"""\
kind: Topology
metadata: {{name: perf}}
spec:
  zones: [{{name: here, tier: cloud}}]
  clusters: [{{name: one, zone: here, runtime: process, nodes: [{{name: n1, cpus: 2, memory: 4Gi}}]}}]
  datasets: [{{name: {DATASET}, parts: [{{at: one, path: {FILE}}}]}}]
"""
_CODE = """\
import shutil

def copy(rows, out):
    shutil.copyfile(rows, out["rows"])

def look(rows, out):
    pass

def add_one(unit):
    return unit + 1

def add_one_with_files(unit, out):
    number = int(unit.read_bytes())
    out["unit"].write_bytes(b"%d" % (number + 1))
"""
_RUN_SECONDS = 600.0


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory of our own on a real disk (or where TMPDIR says), removed in the end."""
    place = Path(tempfile.mkdtemp(prefix="bdw-fed-perf-", dir=os.environ.get("TMPDIR") or SCRATCH))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class Ended:
    """A run that has succeeded, and the newest events of it, oldest first."""

    run: model.Run
    events: Sequence[model.Event]

    def first(self, kind: str, step: str = "") -> float:
        """When the first event of a kind (and step) came. PerfError if none is remembered."""
        return self._times(kind, step)[0]

    def last(self, kind: str, step: str = "") -> float:
        """When the last one came."""
        return self._times(kind, step)[-1]

    def done(self, step: str) -> int:
        """How many tasks of a step have been committed."""
        return sum(
            progress.done
            for fragment in self.run.fragments.values()
            for progress in fragment.steps
            if progress.step == step
        )

    def _times(self, kind: str, step: str) -> list[float]:
        named = f"runs/{self.run.name}/steps/{step}"
        times = [
            event.time
            for event in self.events
            if event.type == f"io.bdw-fed.{kind}"
            and (not step or event.subject == named or event.subject.startswith(f"{named}/"))
        ]
        if not times:
            raise PerfError(f"run {self.run.name} has no event {kind} {step}; {len(self.events)} are remembered")
        return times


class Federation:
    """A running federation and a client of it that is connected already."""

    def __init__(self, client: SyncClient, start_seconds: float, bundle: bytes) -> None:
        self.client = client
        self.start_seconds = start_seconds
        self.runs: list[str] = []  # that were submitted by `run`
        self._bundle = bundle

    def apply(self, step: str, *others: str) -> None:
        """Store a step, whose code is in the bundle that all steps here share, and documents that have none."""
        self.client.apply([Document(step, bundle=self._bundle), *map(Document, others)])

    def run(self, workflow: str, parameters: Mapping[str, object] | None = None) -> Ended:
        """Submit, wait until it has succeeded, and take its events. PerfError if it does not succeed."""
        name = self.client.submit(workflow, parameters).run.name
        self.runs.append(name)
        return self.ended(name)

    def ended(self, name: str) -> Ended:
        """A run that was submitted, once it has succeeded. PerfError if it does not."""
        run = self.client.wait(name, timeout=_RUN_SECONDS)
        if run.state != model.RUN_STATE_SUCCEEDED:
            raise PerfError(f"run {name} of workflow {run.workflow} did not succeed: {run.message}")
        return Ended(run, sorted(self.client.events(name), key=lambda event: event.lamport))

    def result(self, run: str, to: Path) -> bytes:
        """The content of a run's only output, fetched into `to`."""
        [saved] = self.client.download(run, to)
        return saved.path.read_bytes()


@contextmanager
def federation(
    place: Path,
    content: str | Callable[[Path], None],
    *,
    durability: str = "process",
    topology: str = _TOPOLOGY,
    storage_credentials: Path | None = None,
) -> Iterator[Federation]:
    """A federation in `place` whose dataset is one file of this content, or what `content` writes into its directory.

    StartError, or what `start` raises.
    """
    state, data, code = place / "state", place / "data", place / "code"
    data.mkdir(parents=True)
    code.mkdir()
    if storage_credentials is not None:
        state.mkdir(mode=0o700)
        (state / STORAGE_CREDENTIALS).symlink_to(storage_credentials.resolve())
    if callable(content):
        content(data)
    else:
        (data / FILE).write_text(content)
    (code / "steps.py").write_text(_CODE)
    described = data / "topology.yaml"
    described.write_text(topology)
    started = control.start(
        state,
        lambda: choose(described, None),
        durability=durability,
        stay=True,
        settle=control.apply_and_settle,
    )
    supervisor = started.supervisor
    assert supervisor is not None
    try:
        with SyncClient(state=state) as client:
            yield Federation(client, started.seconds, pack(code))
    finally:
        supervisor.terminate()
        supervisor.wait()


def value_step(name: str) -> str:
    """A step that adds one to a number, in a warm interpreter; its function takes and returns the number."""
    return f"""\
kind: Step
metadata: {{name: {name}, version: "1"}}
spec:
  run: {{python: "steps:add_one", bundle: ./code}}
  inputs: {{unit: {{as: json}}}}
  outputs: {{unit: {{as: json}}}}
  pool: {{idle: 10m}}
"""


def python_step(name: str) -> str:
    """The same with files: its function reads the number from a path, and writes it to another."""
    return f"""\
kind: Step
metadata: {{name: {name}, version: "1"}}
spec:
  run: {{python: "steps:add_one_with_files", bundle: ./code}}
  inputs: {{unit: {{}}}}
  outputs: {{unit: {{}}}}
  pool: {{idle: 10m}}
"""


def copying_step(name: str, resources: str = "{}") -> str:
    """A step that copies its file with shutil, in a warm interpreter."""
    return f"""\
kind: Step
metadata: {{name: {name}, version: "1"}}
spec:
  run: {{python: "steps:copy", bundle: ./code}}
  inputs: {{rows: {{format: csv}}}}
  outputs: {{rows: {{format: csv}}}}
  resources: {resources}
  pool: {{idle: 10m}}
"""
