"""How the end of a process is told to people."""

from __future__ import annotations

import signal

from cluster_agent.runtimes.base import Outcome, WorkerSpec, last_bytes
from cluster_agent.runtimes.process.link import Exit
from cluster_agent.runtimes.process.streams import LastWords

_MEBIBYTE = 1 << 20
GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL


def describe_exit(exited: Exit) -> str:
    """For example "ended with exit code 3" or "was killed by SIGSEGV"."""
    if exited.error:
        return f"could not be executed: {exited.error}"
    if exited.signal == signal.SIGKILL:
        return "was killed by SIGKILL, which neither it nor we sent: by a person, or for lack of memory"
    if exited.signal:
        try:
            return f"was killed by {signal.Signals(exited.signal).name}"
        except ValueError:
            return f"was killed by signal {exited.signal}"
    return f"ended with exit code {exited.code}"


def with_limit(kind: str, message: str, spec: WorkerSpec) -> str:
    """The message of a failure of this kind, with the limit that was met."""
    limit = {"memory": spec.memory, "disk": spec.disk}.get(kind, 0)
    return f"{message} (its limit is {limit / _MEBIBYTE:g} MiB)" if limit else message


def timed_out(limit: float, seconds: float, words: LastWords) -> Outcome:
    """The outcome of a task that was ended by us because its time was over."""
    return Outcome("timeout", f"ended after its timeout of {limit:g} s", last_bytes(words.text(2)), seconds)
