"""The kind environment that tests break, through the command line and kubectl alone, as its users would."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import stores
from federation import Federation
from surroundings import IMAGES, MADE, lay_out

from bdw_fed import SyncClient
from bdw_fed.client.errors import Unavailable
from bdw_fed.client.runs import has_ended
from bdw_fed.v1 import model_pb2 as model

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLE = ROOT / "examples" / "flights"
CHAIN = ROOT / "examples" / "thesis-chain"
NAMES = ("edge1", "edge2", "cloud1")
UP_SECONDS = 1200
PATIENCE = 300.0  # six nodes of Kubernetes on one machine, with images and caches that are cold at first
Done = dict[str, int]


@dataclass(frozen=True)
class Clusters:
    """The environment: its federation, and what can be done to it."""

    federation: Federation
    state: Path
    credentials: Path  # of the stores

    @classmethod
    def of(cls, state: Path, surroundings: Path) -> Clusters:
        """The one whose state is in a directory, of the topology and data that are laid out in another."""
        credentials = stores.credentials(state.with_name(f"{state.name}-stores"))
        return cls(Federation(state, lay_out(surroundings), PATIENCE), state, credentials)

    def up(self) -> None:
        """Make what is missing."""
        topology = self.federation.topology
        images = (word for image in IMAGES for word in ("--load", image))
        words = (str(topology), "--data", str(topology.parent), "--storage-credentials", str(self.credentials))
        self.kind("up", *words, *images)

    def apply_workflows(self) -> None:
        """Those of the examples and of the tests in this directory."""
        examples = [example / name for example in (EXAMPLE, CHAIN) for name in ("steps.yaml", "workflow.yaml")]
        self.federation.apply(*examples, *sorted(HERE.glob("*/workflow.yaml")))

    def kind(self, *words: str) -> str:
        """What `bdw-fed kind WORDS` prints."""
        done = subprocess.run(
            [sys.executable, "-m", "bdw_fed.cli", "kind", *words, "--state", str(self.state)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=UP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"kind {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask_kubectl(
        self, cluster: str, *words: str, namespace: str = "bdw-fed", given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """What becomes of `kubectl WORDS` about a cluster, which reads what is given."""
        config = ("--kubeconfig", str(self.state / "kubeconfig"), "--context", f"kind-{cluster}", "-n", namespace)
        return subprocess.run(["kubectl", *config, *words], capture_output=True, text=True, input=given, check=False)

    def kubectl(self, cluster: str, *words: str, namespace: str = "bdw-fed") -> str:
        """What `kubectl WORDS` prints about a cluster."""
        done = self.ask_kubectl(cluster, *words, namespace=namespace)
        assert done.returncode == 0, f"kubectl {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def apply(self, cluster: str, manifest: str) -> None:
        """Apply what was printed on a cluster."""
        done = self.ask_kubectl(cluster, "apply", "-f", "-", given=manifest)
        assert done.returncode == 0, f"kubectl apply:\n{done.stderr}"

    def pod(self, cluster: str, name: str) -> str:
        """The name of the one pod of a component on a cluster."""
        (pod,) = self.kubectl(cluster, "get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "name").split()
        return pod

    def kill(self, cluster: str, name: str) -> None:
        """Delete that pod without letting it stop in order, and wait until another one is ready in its place."""
        pod = self.pod(cluster, name)
        self.kubectl(cluster, "delete", pod, "--grace-period=0", "--force")
        self.await_ready(cluster)

    def uids(self, cluster: str, selector: str) -> dict[str, str]:
        """The pods that a selector finds on a cluster, and which ones they are: name -> uid."""
        form = "jsonpath={range .items[*]}{.metadata.name}={.metadata.uid} {end}"
        return dict(pod.split("=") for pod in self.kubectl(cluster, "get", "pods", "-l", selector, "-o", form).split())

    def await_ready(self, cluster: str) -> None:
        """Until all of our workloads on a cluster are as they should be."""
        kinds = "deployment,statefulset,daemonset"
        for workload in self.kubectl(cluster, "get", kinds, "-o", "name").split():
            self.kubectl(cluster, "rollout", "status", workload, "--timeout=180s")

    def await_state(self, cluster: str, wanted: Callable[[str], bool]) -> None:
        """Until the hub says so of a cluster."""
        until(lambda: wanted(self._state_of(cluster)), f"the hub says otherwise of {cluster}")

    def await_all_ready(self) -> None:
        """Until the hub says of each cluster that it is ready."""
        for name in NAMES:
            self.await_state(name, lambda state: state == "ready")

    def watch_until(self, run: str, reached: Callable[[model.Run], bool]) -> model.Run:
        """The run as it is when this holds, or when it has ended."""
        with SyncClient(state=self.state) as client:
            for seen in client.watch_run(run):
                if has_ended(seen) or reached(seen):
                    return seen
        raise AssertionError(f"the watch of {run} ended before the run")

    def wait(self, run: str) -> None:
        """Until the run has succeeded, hub or no hub."""
        self.federation.insist("wait", run)

    def _state_of(self, cluster: str) -> str:
        try:
            with SyncClient(state=self.state) as client:
                return next(seen.state for seen in client.status().clusters if seen.name == cluster)
        except Unavailable:
            return "the hub is away"


def until(holds: Callable[[], bool], otherwise: str, patience: float = PATIENCE) -> None:
    """Wait for a condition that nobody announces. AssertionError with these words if it does not come."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"after {patience:.0f} s: {otherwise}"
        time.sleep(0.2)


def done_of(run: model.Run, cluster: str = "") -> Done:
    """Tasks done by step, on one cluster or over all."""
    sums: Done = {}
    for name, fragment in run.fragments.items():
        for step in fragment.steps if cluster in ("", name) else ():
            sums[step.step] = sums.get(step.step, 0) + step.done
    return sums


def under_way(clusters: Clusters) -> str:
    """A run of the chain that has done some of its first step, at both edges."""
    run: str = clusters.federation.submit("chain", pace=0.5)
    seen = clusters.watch_until(run, lambda run: all(done_of(run, edge).get("first", 0) for edge in ("edge1", "edge2")))
    assert not has_ended(seen), "the run was too quick to be disturbed"
    return run


def lacking() -> str:
    """What the tests need and this machine has not; empty if all is there."""
    for program in ("docker", "kind", "kubectl"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "Docker does not answer"
    made = subprocess.run(
        ["docker", "build", "--quiet", "--tag", MADE, str(ROOT / "examples" / "images")],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        return f"the image {MADE} can't be built here:\n{made.stderr}"
    if failed := stores.build():
        return failed
    for image in IMAGES:
        words = (["docker", "image", "inspect", image], ["docker", "pull", image])
        if all(subprocess.run(each, capture_output=True, check=False).returncode for each in words):
            return f"the image {image} is neither here nor can it be pulled"
    prepared = subprocess.run(
        [sys.executable, str(EXAMPLE / "prepare.py")], capture_output=True, text=True, timeout=300, check=False
    )
    if prepared.returncode:
        return f"the flights data can't be had here:\n{prepared.stderr}"
    subprocess.run([sys.executable, str(CHAIN / "prepare.py")], check=True)
    return ""
