"""The kind environment that tests break, through the command line and kubectl alone, as its users would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from federation import Federation

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "flights"
UP_SECONDS = 1200


@dataclass(frozen=True)
class Clusters:
    """The environment: its federation, and what can be done to it."""

    federation: Federation
    state: Path

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

    def kubectl(self, cluster: str, *words: str, namespace: str = "bdw-fed") -> str:
        """What `kubectl WORDS` prints about a cluster."""
        config = ("--kubeconfig", str(self.state / "kubeconfig"), "--context", f"kind-{cluster}", "-n", namespace)
        done = subprocess.run(
            ["kubectl", *config, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def pod(self, cluster: str, name: str) -> str:
        """The name of the one pod of a component on a cluster."""
        (pod,) = self.kubectl(cluster, "get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "name").split()
        return pod

    def kill(self, cluster: str, name: str) -> None:
        """Delete that pod without letting it stop in order, and wait until another one is ready in its place."""
        pod = self.pod(cluster, name)
        self.kubectl(cluster, "delete", pod, "--grace-period=0", "--force")
        self.await_ready(cluster)

    def await_ready(self, cluster: str) -> None:
        """Until all of our workloads on a cluster are as they should be."""
        kinds = "deployment,statefulset,daemonset"
        for workload in self.kubectl(cluster, "get", kinds, "-o", "name").split():
            self.kubectl(cluster, "rollout", "status", workload, "--timeout=180s")


def missing() -> str:
    """What the tests need and this machine has not; empty if all is there."""
    for program in ("docker", "kind", "kubectl"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    info = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "" if info.returncode == 0 else "Docker does not answer"
