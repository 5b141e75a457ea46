"""Services as processes that are started again when they end, as a machine's own supervisor would.

A thread keeps each of them: it starts it, hears when it serves, waits for its end and begins again. The process dies
with its thread, so that nothing outlives the test.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PAUSE = 0.1  # before it is started again
STOP_SECONDS = 30.0


class Daemon:
    """One service, which runs from its making on until `stop`."""

    def __init__(self, name: str, role: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self.role = name, role
        self._command, self._log, self._environment = tuple(command), log, dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._serves = threading.Event()
        self._code: int | None = None
        self._keeper = threading.Thread(target=self._keep, name=name, daemon=True)
        self._keeper.start()

    def await_serving(self, seconds: float) -> None:
        """Until it has said that it serves, once."""
        assert self._serves.wait(seconds), f"{self.name} does not serve: {self.last_words()}"

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else "(nothing said)"

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; False if it just is not there."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        return True

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither does nor says anything meanwhile."""
        process = self._process
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if process is not None:
                process.send_signal(signal.SIGCONT)  # nothing happens if that one has ended

    def stop(self) -> None:
        """Ask it to end. `await_end` follows."""
        self._stopping.set()
        self.signal(signal.SIGTERM)

    def await_end(self) -> None:
        """Until it has ended after `stop`; it must have done so in order, by itself."""
        self._keeper.join(STOP_SECONDS)
        if self._keeper.is_alive():
            self.signal(signal.SIGABRT)
            self._keeper.join()
            raise AssertionError(f"{self.name} does not end: {self.last_words()}")
        assert self._code in (0, -signal.SIGTERM), f"{self.name} ended with {self._code}: {self.last_words()}"

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with (
                self._log.open("ab") as log,
                subprocess.Popen(
                    self._command,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=self._environment,
                ) as process,
            ):
                self._process = process
                if self._stopping.is_set():  # it was asked before it was there
                    process.terminate()
                assert process.stdout
                for said in process.stdout:
                    if b'"ready"' in said:
                        self._serves.set()
            self._code = process.returncode
            self._stopping.wait(PAUSE)
