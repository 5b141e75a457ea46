"""How the end of a process is told to people."""

from __future__ import annotations

import re
import signal

from cluster_agent.runtimes.base import Outcome, WorkerSpec, last_bytes
from cluster_agent.runtimes.process.link import Exit
from cluster_agent.runtimes.process.streams import LastWords

_MEBIBYTE = 1 << 20
_PROGRAM_BYTES = 64 << 20  # of address space for a program and its libraries, beyond what its task may use
_NO_MEMORY = re.compile(r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc|memory exhausted")
_NO_SPACE = re.compile(r"File too large|File size limit exceeded|No space left on device")
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


def kind_of_end(exited: Exit, said: str, spec: WorkerSpec) -> str:
    """The kind of failure of a program that has ended otherwise than well, having said this at last."""
    if exited.signal == signal.SIGKILL:
        return "lost"
    if exited.signal == signal.SIGXFSZ or _NO_SPACE.search(said):
        return "disk"
    if spec.memory and (_NO_MEMORY.search(said) or exited.peak_memory >= spec.memory):
        return "memory"
    return "exit"


def program_limit(spec: WorkerSpec) -> int:
    """The bytes of address space that a program may have; 0 = not limited."""
    return spec.memory + _PROGRAM_BYTES if spec.memory else 0


def with_limit(kind: str, message: str, spec: WorkerSpec) -> str:
    """The message of a failure of this kind, with the limit that was met."""
    limit = {"memory": spec.memory, "disk": spec.disk}.get(kind, 0)
    return f"{message} (its limit is {limit / _MEBIBYTE:g} MiB)" if limit else message


def timed_out(limit: float, seconds: float, words: LastWords) -> Outcome:
    """The outcome of a task that was ended by us because its time was over."""
    return Outcome("timeout", f"ended after its timeout of {limit:g} s", last_bytes(words.text(2)), seconds)
