"""`up`: start a federation on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.exits import CONFLICT, OK, RefusedError, print_warnings
from bdw_fed.cli.options import Data, State, TopologyFile

if TYPE_CHECKING:
    import subprocess

    from bdw_fed.embedded.control import Running
    from bdw_fed.embedded.topologies import Chosen

EXAMPLES = """\
  bdw-fed up                                  two edges and a cloud
  bdw-fed up examples/flights/topology.yaml
  bdw-fed up topology.yaml --data /srv/data --state out/state
  bdw-fed up --foreground                     until ^C
"""


def command(
    topology: TopologyFile = None,
    data: Data = None,
    durability: Annotated[
        str,
        Option(("--durability",), "What accepted state survives: process (a crash of ours) or power.", "process|power"),
    ] = "process",
    foreground: Annotated[bool, Option(("--foreground",), "Stay, and stop it all at ^C or SIGTERM.")] = False,
    state: State = None,
) -> int:
    """Start a whole federation on this machine: etcd, the hub, an agent for each cluster, a daemon for each node.

    It keeps running when this command has ended, until 'bdw-fed down'; its processes are started again when they die.
    What it keeps lies in the state directory, so that it goes on where it was after 'down' and 'up'.
    """
    from bdw_fed.client.connection import default_state
    from bdw_fed.embedded import control
    from bdw_fed.embedded.errors import ClashError, EmbeddedError

    place = (state or default_state()).resolve()
    running = control.look(place)
    if running is not None:
        return _already(running, topology)

    def choose() -> Chosen:
        from bdw_fed.embedded.topologies import choose

        chosen = choose(topology, data)
        print_warnings(chosen.warnings)
        return chosen

    try:
        started = control.start(place, choose, durability=durability, stay=foreground, settle=control.apply_and_settle)
    except ClashError as error:
        raise RefusedError(str(error), CONFLICT) from error
    except EmbeddedError as error:
        raise RefusedError(str(error)) from error
    count = len(started.layout.processes)
    print(f"up in {started.seconds:.1f} s: {count} processes, state in {place}", flush=True)
    return _stay(started.supervisor) if started.supervisor else OK


def _already(running: Running, topology: Path | None) -> int:
    """It runs: fine, unless another topology is asked for."""
    from bdw_fed.embedded.layout import read_layout
    from wire.digests import bytes_digest

    layout = read_layout(running.state)
    if topology is not None and layout is not None and topology.is_file():
        digest = bytes_digest(topology.read_text().encode()).hex()
        if digest != layout.topology:
            raise RefusedError(
                f"a federation with another topology runs in {running.state}; "
                "stop it with 'bdw-fed down', or name another directory with --state",
                CONFLICT,
            )
    print(f"already up (supervisor {running.pid}), state in {running.state}")
    return OK


def _stay(supervisor: subprocess.Popen[bytes]) -> int:
    """Until the supervisor ends, or we are told to end it."""
    import signal

    def on_signal(_number: int, _frame: object) -> None:
        supervisor.terminate()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    code = supervisor.wait()
    print("down")
    return OK if code == 0 else 1
