"""Runs the chain over a federation on this machine and prints where its units went, and what their time went into.

    measure.py                                      1 and 10 MB, 2 and 3 units at each edge, both bodies
    measure.py --times 10 --prefer distance,finish  ten times the load, two policies side by side
    measure.py --times 10 --remove edge1            and edge1 loses its workers in the middle
    measure.py --without-hub                        and the hub stands still once the first task is done

All figures come from what the product says of its runs: `describe` and `events`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from accounts import Account, account, show_excess, show_head, show_row
from onepass import digests
from prepare import EDGES, HERE, dataset_name, lay_out

from bdw_fed.client import Document, SyncClient
from bdw_fed.embedded import control
from bdw_fed.v1 import model_pb2 as model
from workflow.bundle import pack

_RUN_SECONDS = 600.0
_STANDSTILL = 20.0  # seconds at most that the hub stands still


@contextmanager
def federation(topology: Path, state: Path) -> Iterator[SyncClient]:
    """The federation that a topology describes, with the example's steps."""
    command = [sys.executable, "-m", "bdw_fed.cli"]
    subprocess.run([*command, "up", str(topology), "--state", str(state)], check=True, stdout=subprocess.DEVNULL)
    try:
        with SyncClient(state=state) as client:
            bundle = pack(HERE / "steps")
            steps = yaml.safe_load_all((HERE / "steps.yaml").read_text())
            client.apply([Document(yaml.safe_dump(step), bundle=bundle) for step in steps])
            yield client
    finally:
        subprocess.run([*command, "down", "--state", str(state)], check=False, stdout=subprocess.DEVNULL)


def apply_chain(client: SyncClient, body: str, dataset: str, prefer: str) -> str:
    """The workflow of that body over a dataset, whose steps prefer clusters so. Returns its name."""
    for document in yaml.safe_load_all((HERE / "workflow.yaml").read_text()):
        if document["metadata"]["name"] != f"chain-{body}":
            continue
        name = f"{body}-{dataset}-{prefer}"
        document["metadata"]["name"] = name
        document["spec"]["inputs"]["units"]["dataset"] = dataset
        for step in document["spec"]["steps"]:
            step["place"] = {**step.get("place", {}), "prefer": prefer}
        client.apply([Document(yaml.safe_dump(document))])
        return name
    raise ValueError(f"workflow.yaml has no chain-{body}")


def run(client: SyncClient, workflow: str, pace: float, *, removal: Removal | None, hub: int) -> Account:
    """One run, and what it did."""
    submitted = client.submit(workflow, {"pace": pace}).run.name
    if removal is not None or hub:
        wait_for_first_task(client, submitted)
    if removal is not None:
        removal.remove(client)
    if hub:
        standstill(hub)
    ended = client.wait(submitted, timeout=_RUN_SECONDS)
    if removal is not None:
        removal.undo(client)
    if ended.state != model.RUN_STATE_SUCCEEDED:
        raise SystemExit(f"run {submitted} did not succeed: {ended.message}")
    return account(ended, list(client.events(submitted)))


def wait_for_first_task(client: SyncClient, run: str) -> None:
    """Until a task of the run has been committed somewhere, so that every cluster has its part of the plan."""
    for seen in client.watch_run(run):
        if any(step.done for part in seen.fragments.values() for step in part.steps if "." not in step.step):
            return


def standstill(hub: int) -> None:
    """Stop the hub's process for a while, and let it go on."""
    os.kill(hub, signal.SIGSTOP)
    timer = threading.Timer(_STANDSTILL, os.kill, (hub, signal.SIGCONT))
    timer.start()
    timer.join()


class Removal:
    """Takes a cluster's workers away by a taint that forbids execution, and takes it back."""

    def __init__(self, cluster: str, topology: Path) -> None:
        self._plain = topology.read_text()
        document = yaml.safe_load(self._plain)
        for each in document["spec"]["clusters"]:
            if each["name"] == cluster:
                each["taints"] = [{"key": "removed", "effect": "NoExecute"}]
        self._tainted = yaml.safe_dump(document)

    def remove(self, client: SyncClient) -> None:
        """From now on the cluster begins no task."""
        client.apply([Document(self._tainted)])

    def undo(self, client: SyncClient) -> None:
        """It does again."""
        client.apply([Document(self._plain)])


def check_outputs(client: SyncClient, run: str, data: Path, megabytes: int, units: int, body: str) -> None:
    """The run's outputs are what the chain makes of the units, each once."""
    name = dataset_name(megabytes, units)
    files = (data / edge / name / f"{number}.bin" for edge in EDGES for number in range(units))
    found = sorted(located.output.unit.digest for located in client.outputs(run))
    if found != digests(files, body):
        raise SystemExit(f"run {run}: the outputs are not those of the chain")


def main(words: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", default="1,10")
    parser.add_argument("--units", default="2,3")
    parser.add_argument("--times", type=int, default=1, help="so many times the units")
    parser.add_argument("--bodies", default="echo,shuffle")
    parser.add_argument("--prefer", default="finish")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds of work a megabyte")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--remove", default="", help="the cluster that loses its workers in the middle")
    parser.add_argument("--without-hub", action="store_true")
    parser.add_argument("--excess", action="store_true", help="list the units that crossed more than once, and why")
    given = parser.parse_args(words)
    sizes = [int(size) for size in given.megabytes.split(",")]
    counts = [int(count) * given.times for count in given.units.split(",")]
    place = Path(tempfile.mkdtemp(prefix="thesis-chain-", dir=os.environ.get("TMPDIR") or "/var/tmp"))  # noqa: S108
    try:
        topology = lay_out(place, [(size, count) for size in sizes for count in counts])
        removal = Removal(given.remove, topology) if given.remove else None
        rows: list[Account] = []
        with federation(topology, place / "state") as client:
            running = control.look(place / "state")
            assert running is not None
            show_head()
            hub = next(item["pid"] for item in running.processes if item["role"] == "hub") if given.without_hub else 0
            for size in sizes:
                for count in counts:
                    for body in given.bodies.split(","):
                        names = {
                            prefer: apply_chain(client, body, dataset_name(size, count), prefer)
                            for prefer in given.prefer.split(",")
                        }
                        for _ in range(given.repeat):
                            for prefer, name in names.items():
                                done = run(client, name, given.pace, removal=removal, hub=hub)
                                check_outputs(client, done.run, place / "data", size, count, body)
                                done.label(body=body, megabytes=size, units=count, prefer=prefer)
                                client.delete("Run", done.run)  # what is on a cluster already need not cross again
                                show_row(done)
                                rows.append(done)
        if given.excess:
            show_excess(rows)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
