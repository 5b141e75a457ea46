"""A federation that a test starts, asks and breaks, through the command line alone, as its users would.

`Federation.start` copies the topology and its data to a directory of the test's own and calls `bdw-fed up`; every other
word goes through `bdw-fed VERB -o json`. The runtime under it is the topology's business.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bdw_fed import SyncClient
from bdw_fed.cli.exits import UNAVAILABLE
from bdw_fed.embedded import control
from tests.fixtures.shared import BUCKET, RedisServer, S3Server

HERE = Path(__file__).parent
CASES = HERE / "cases"
TOPOLOGY = HERE / "federation" / "topology.yaml"
PREFIX = "e2e"  # of all objects in the bucket
PATIENCE = 120.0  # seconds after which a command that should have come back is taken to hang


class CommandError(AssertionError):
    """The command line ended with a code that the test did not expect."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Federation:
    """A running federation, its state directory and where its data lies."""

    state: Path
    topology: Path
    patience: float = PATIENCE
    within: tuple[str, ...] = ()  # words before those of each command
    profile: Mapping[str, str] = field(default_factory=dict)  # environment that names a hub elsewhere

    @classmethod
    def start(cls, directory: Path, topology: Path) -> Federation:
        """Start what `topology` describes, with its state under `directory`."""
        federation = cls(directory / "state", topology)
        federation.call("up", str(topology))
        return federation

    def stop(self) -> None:
        """Stop it, and wait until its processes are gone."""
        self.call("down")

    def call(self, *words: str, expect: tuple[int, ...] = (0,)) -> str:
        """What `bdw-fed WORDS` prints. CommandError with all that it said if its exit code is not among `expect`."""
        done = subprocess.run(
            self._verb(words),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=self.patience,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode not in expect:
            said = f"{done.stdout}\n{done.stderr}\n{self._last_words()}"
            raise CommandError(
                done.returncode, f"bdw-fed {' '.join(words)} ended with {done.returncode}, expected {expect}:\n{said}"
            )
        return done.stdout

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """The command, which goes on; its output, errors among it, is in its pipe. The caller sees to its end."""
        return subprocess.Popen(
            self._verb(words),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def insist(self, *words: str) -> str:
        """The same, said again for as long as the hub can't be reached: it is being started."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            try:
                return self.call(*words)
            except CommandError as error:
                if error.code != UNAVAILABLE:
                    raise
        return self.call(*words)

    def ask(self, *words: str, expect: tuple[int, ...] = (0,)) -> Any:
        """The same with `-o json`, read."""
        return json.loads(self.call(*words, "-o", "json", expect=expect))

    def apply(self, *paths: Path) -> None:
        """Apply files or directories."""
        self.call("apply", *(word for path in paths for word in ("-f", str(path))))

    def run(self, workflow: str) -> dict[str, Any]:
        """Submit, wait for the end however it comes, and describe the run."""
        name = self.submit(workflow)
        self.call("wait", name, expect=(0, 1))
        return self.describe(name)

    def submit(self, workflow: str, **parameters: object) -> str:
        """The name of a new run of `workflow`."""
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}={value}")]
        return self.insist("submit", workflow, *words, "-o", "name").strip().removeprefix("run/")

    def describe(self, run: str) -> dict[str, Any]:
        """The run as `describe run RUN -o json` tells it: a DescribeRunResponse in JSON."""
        described: dict[str, Any] = self.ask("describe", "run", run)
        return described

    def fetch(self, run: str, directory: Path) -> dict[str, bytes]:
        """The run's outputs, fetched: file name, or path below an output that is a directory → bytes."""
        self.insist("outputs", run, "--to", str(directory))
        files = (path for path in directory.rglob("*") if path.is_file())
        return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}

    def outputs(self, run: str, directory: Path) -> dict[str, str]:
        """The same as text."""
        return {name: content.decode() for name, content in self.fetch(run, directory).items()}

    def processes(self) -> list[dict[str, Any]]:
        """The federation's processes: kind (supervisor, etcd, hub, agent, node), name, pid."""
        processes: list[dict[str, Any]] = self.ask("status", expect=(0, 1, 4))["processes"]
        return processes

    def supervised(self) -> tuple[int, list[dict[str, Any]]]:
        """The supervisor's pid and what it says of its processes (role, name, pid), without a command."""
        running = control.look(self.state)
        assert running is not None, "the federation's supervisor is gone"
        return running.pid, running.processes

    def wait_until_running(self, run: str) -> None:
        """Until tasks of the run have been committed, so that it is in the middle of things."""
        with SyncClient(state=self.state) as client:
            for seen in client.watch_run(run):
                if any(step.done for fragment in seen.fragments.values() for step in fragment.steps):
                    return

    @property
    def _environment(self) -> dict[str, str]:
        """States where the federation is, so that every verb finds it without an option of its own."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # steps find the tests' python3
        return {**os.environ, "PATH": path, "BDW_FED_STATE": str(self.state), "NO_COLOR": "1", **self.profile}

    def _verb(self, words: tuple[str, ...]) -> list[str]:
        return [*self.within, sys.executable, "-m", "bdw_fed.cli", *words]

    def _last_words(self) -> str:
        logs = sorted((self.state / "logs").glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs if log.stat().st_size
        )


def lay_out(directory: Path) -> Path:
    """The tests' topology with its data, in `directory`. Returns the topology file."""
    shutil.copy(TOPOLOGY, directory / "topology.yaml")
    lay_out_data(directory)
    return directory / "topology.yaml"


def add_datasets(topology: Path, datasets: list[dict[str, Any]]) -> None:
    """Write further datasets into a topology's file."""
    content = yaml.safe_load(topology.read_text())
    content["spec"]["datasets"] += datasets
    topology.write_text(yaml.safe_dump(content, sort_keys=False))


def add_storage(topology: Path, state: Path, redis: RedisServer, s3: S3Server) -> None:
    """Give edge1 a Redis and a bucket, and cloud1 the same bucket; its credentials are files in the state directory."""
    objects = {"bucket": BUCKET, "endpoint": s3.endpoint, "prefix": PREFIX, "plain": True, "credentials": "bucket"}
    places = {"edge1": {"redis": {"url": f"redis://127.0.0.1:{redis.port}"}, "objects": objects}}
    places["cloud1"] = {"objects": objects}
    content = yaml.safe_load(topology.read_text())
    for cluster in content["spec"]["clusters"]:
        if cluster["name"] in places:
            cluster["storage"] = places[cluster["name"]]
    topology.write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.copytree(s3.credentials, state / "storage-credentials" / "bucket")


def lay_out_data(directory: Path) -> None:
    """The files that the topology's datasets name, below `directory`."""
    for cluster, letter, numbers in (("edge1", "a", range(100)), ("edge2", "b", range(100, 150))):
        data = directory / "data" / cluster
        data.mkdir(parents=True)
        (data / "numbers.csv").write_text("number\n" + "".join(f"{number}\n" for number in numbers))
        (data / "names.csv").write_text(f"parity,name\n0,{letter}-even\n1,{letter}-odd\n")
        (data / "folder" / ".hidden").mkdir(parents=True)
        (data / "folder" / ".hidden" / "letter").write_text(letter)
    (directory / "data" / "edge1" / "nothing.csv").write_text("number\n")
    (directory / "data" / "edge1" / "seed.txt").write_text("7\n")
    notes = 'id,note\n1,"first\nline"\n2,"said ""hi""\n\n"\n3,three\n'
    (directory / "data" / "edge1" / "notes.csv.gz").write_bytes(gzip.compress(notes.encode()))
    (directory / "data" / "edge2" / "notes.csv").write_text('id,note\n4,"four, in\ntwo lines"\n5,fünf\n')
