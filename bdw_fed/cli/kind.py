"""The kind environment for people: the steps as they go, the examples, and how things stand.

Progress goes to standard error, so that standard output holds nothing but the answer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdw_fed.cli.exits import NEGATIVE, OK, RefusedError
from bdw_fed.cli.output import Format, show_table, show_values
from bdw_fed.cli.quantities import duration
from bdw_fed.kind import bringing, clusters, deployment
from bdw_fed.kind.environment import context_of
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.preparing import Wishes, prepare
from bdw_fed.kind.state import State, default_directory, read_state
from bdw_fed.kind.steps import Begun, Step, carry_out
from bdw_fed.manifests.overlays import NAMESPACE

if TYPE_CHECKING:
    from bdw_fed.client import Document

_NONE = {"name": "-", "node": "-", "worker": False, "ready": False, "restarts": 0, "waits_for": "-"}


@contextmanager
def refused() -> Iterator[None]:
    """What goes wrong with the environment ends the command with its message."""
    try:
        yield
    except KindError as error:
        raise RefusedError(str(error)) from error


def place_of(state: Path | None) -> Path:
    """The directory that is meant."""
    return (state or default_directory()).resolve()


def bring_up(state: Path | None, wishes: Wishes, *, examples: bool, to: Path, form: Format) -> int:
    """Do all steps, then the examples if they are wanted and the topology is theirs."""
    directory = place_of(state)
    began = time.monotonic()
    with refused():
        ground = prepare(directory, wishes)
        took = _done(bringing.plan(ground, wishes))
    seconds = time.monotonic() - began
    if not form.for_people:
        values = {"state": str(directory), "kubeconfig": str(ground.state.kubeconfig), "seconds": took}
        show_values(values, form if form is Format.YAML else Format.JSON)
    else:
        context = context_of(ground.state.hub)
        print(f"\nup in {duration(seconds)}: {', '.join(member.name for member in ground.environment.members)}")
        print(f"  bdw-fed status --state {directory}")
        print(f"  kubectl --kubeconfig {ground.state.kubeconfig} --context {context} -n {NAMESPACE} get pods")
    if wishes.topology is None and examples:
        return _examples(directory, to) if form.for_people else OK
    return OK


def _done(steps: Sequence[Step]) -> dict[str, float]:
    """Do the steps, and show each; returns the seconds that each took."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))
    took: dict[str, float] = {}
    under_way: list[str] = []
    with console.status("") if console.is_terminal else nullcontext() as status:
        for event in carry_out(steps, at_once=max(2, os.cpu_count() or 2)):
            name = event.step.name
            if isinstance(event, Begun):
                under_way.append(name)
            else:
                under_way.remove(name)
                took[name] = round(event.seconds, 2)
                line = f"{len(took):>2}/{len(steps)} {event.seconds:6.1f} s  {name:<24} {event.said}".rstrip()
                console.print(line, markup=False, soft_wrap=True)
                sys.stderr.flush()
            if status is not None:
                status.update(", ".join(under_way))
    return took


def _examples(directory: Path, to: Path) -> int:
    """The flights example and the chain of the thesis, on the topology that is there."""
    from bdw_fed.cli.chain import run_chain
    from bdw_fed.cli.demonstration import run_example
    from bdw_fed.client import SyncClient

    examples = Path(read_state(directory).data_root)
    with SyncClient(state=directory) as client:
        print("\nHow much later do flights leave when the wind blows?")
        flights = examples / "flights"
        if not run_example(client, _definitions(flights), flights, to.absolute()):
            return NEGATIVE
        print("A chain of four steps, of which the last may only run in the cloud")
        chain = examples / "thesis-chain"
        return OK if run_chain(client, _definitions(chain), chain) else NEGATIVE


def _definitions(example: Path) -> list[Document]:
    """The steps and workflows of an example, without its topology."""
    from bdw_fed.cli.files import read_documents

    return read_documents([str(example / name) for name in ("steps.yaml", "workflow.yaml")])


# ------------------------------------------------------------------------------------------------------------ status


def show_status(state: Path | None, form: Format) -> int:
    """All that there is, and whether it is ready."""
    with refused():
        found = _looked_at(read_state(place_of(state)))
    ready = bool(found["ready"])
    if not form.for_people:
        show_values(found, form if form is Format.YAML else Format.JSON)
        return OK if ready else NEGATIVE
    rows = []
    for cluster in found["clusters"]:
        for pod in cluster["pods"] or [_NONE]:
            word = "ready" if pod["ready"] else pod["waits_for"] or ("starting" if pod["worker"] else "not ready")
            rows.append([cluster["name"], cluster["state"], pod["node"], pod["name"], word, str(pod["restarts"])])
    show_table(["CLUSTER", "STATE", "NODE", "POD", "READY", ">RESTARTS"], rows)
    for one, other in found["partitions"]:
        print(f"{one} and {other} are cut off from each other")
    for link, rate in found["links"].items():
        print(f"{link.replace(' ', ' – ')}: {rate * 8 / 1e6:g} Mbit/s")
    print("\nready" if ready else "\nnot ready")
    return OK if ready else NEGATIVE


def _looked_at(state: State) -> dict[str, Any]:
    there = clusters.existing()
    listed: list[dict[str, Any]] = []
    for cluster in state.clusters:
        about: dict[str, Any] = {"name": cluster.name, "state": "missing", "nodes": {}, "pods": []}
        if cluster.name in there:
            about["nodes"] = clusters.nodes(cluster.name)
            try:
                about["pods"] = deployment.pods(state, cluster.name)
                about["state"] = "there" if cluster.whole else "half made"
            except KindError as error:
                about["state"] = f"does not answer: {str(error).splitlines()[0]}"
        listed.append(about)
    ready = all(about["state"] == "there" and about["pods"] for about in listed)
    ready = ready and all(pod["ready"] or pod["worker"] for about in listed for pod in about["pods"])
    return {
        "ready": ready,
        "hub": f"127.0.0.1:{state.hub_port}",
        "clusters": listed,
        "partitions": [list(pair) for pair in state.partitions],
        "links": state.links,
    }
