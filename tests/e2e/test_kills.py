"""Whatever process dies at whatever moment, the run ends with the same output.

Each round submits a run and, while it is under way, kills processes with SIGKILL, until the round's share of kills is
done. The supervisor starts them again. The victims and moments come from a seed that is printed, and can be given in
BDW_FED_SEED to see a round again (as far as the machine lets itself be repeated).
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import HERE, Federation, lay_out

pytestmark = pytest.mark.fault

KINDS = ("worker", "node", "agent", "hub", "etcd")
KILLS = 20
EXPECTED = f"-{sum(number * number for number in range(150))} 150 75\n"


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation to be broken, apart from the one that other tests use."""
    directory = tmp_path_factory.mktemp("kills")
    started = Federation.start(directory, lay_out(directory))
    started.apply(HERE / "federation" / "kills" / "workflow.yaml")
    yield started
    started.stop()


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live."""
    try:
        return [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def pids(federation: Federation, kind: str) -> list[int]:
    """The processes of one kind that live just now; workers are what nodes have started, the spawner among them."""
    processes = federation.processes()
    supervisor = next(process["pid"] for process in processes if process["kind"] == "supervisor")
    living = set(children(supervisor))  # the number of one that has ended may be somebody else's by now
    role = "node" if kind == "worker" else kind
    found = [process["pid"] for process in processes if process["kind"] == role and process["pid"] in living]
    return [each for pid in found for each in descendants(pid)] if kind == "worker" else found


def kill_one(federation: Federation, chance: random.Random, kind: str) -> bool:
    """Kill a process of this kind, if there is one."""
    candidates = sorted(pids(federation, kind))
    if not candidates:
        return False
    try:
        os.kill(chance.choice(candidates), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_process_may_die_once(victim: Federation, kind: str, tmp_path: Path) -> None:
    run = victim.submit("kills")
    victim.wait_until_running(run)
    assert kill_one(victim, random.Random(kind), kind)
    victim.call("wait", run)
    assert victim.outputs(run, tmp_path) == {"total.txt": EXPECTED}


def test_twenty_kills_at_random_moments_change_nothing(victim: Federation, tmp_path: Path) -> None:
    seed = int(os.environ.get("BDW_FED_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"BDW_FED_SEED={seed}")
    chance = random.Random(seed)
    killed: list[str] = []
    rounds = 0
    while len(killed) < KILLS:
        rounds += 1
        run = victim.submit("kills")
        for _ in range(chance.randint(2, 5)):
            threading.Event().wait(chance.uniform(0.0, 1.5))  # the random moment
            kind = chance.choice(KINDS)
            if kill_one(victim, chance, kind):
                killed.append(kind)
        victim.call("wait", run)
        got = victim.outputs(run, tmp_path / run)
        assert got == {"total.txt": EXPECTED}, f"seed {seed}, round {rounds}, killed {killed}"
    print(f"{len(killed)} kills in {rounds} rounds: {killed}")
