"""What must hold once all has come to rest: nothing is held, owed or waited for, and the two ends agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bdw_fed.v1 import model_pb2 as m
from cluster_agent.coordinator.messages import RunKey
from control_plane.runs import forms
from control_plane.runs.lines import name_of
from simulator.audit import audit
from wire.lines import run_of

if TYPE_CHECKING:
    from simulator.trials.world import World


def judge(world: World) -> list[str]:
    """What is not at rest, or is wrong."""
    problems: list[str] = []
    out = world.ledger.out  # what goes on in a cluster that was revoked is nobody's business
    problems += world.ledger.ignorant([*world.scenario.hub_names, *(name for name in world.agents if name not in out)])
    for cluster, agent in world.agents.items():
        if not agent._process.alive:
            problems.append(f"{cluster}'s agent is down")
            continue
        if cluster in out:
            continue
        unheard = [other for other in agent.unheard() if other not in out]
        problems += [f"{cluster} has said things to {other} that it has not heard" for other in unheard]
        if held := agent.core.reserved():
            problems.append(f"{cluster} holds slots of {', '.join(sorted(each.run for each in held))}")
        try:
            audit(agent.core)
        except AssertionError as error:
            problems.append(f"the books of {cluster} are wrong: {error}")
        for name, node in agent.core._book.nodes.items():
            if node.tasks:
                problems.append(f"{cluster} thinks that {name} has {len(node.tasks)} tasks")
    for name, daemon in world.daemons.items():
        if daemon.cluster in out:
            continue
        if not daemon._process.alive:
            problems.append(f"{name} is down")
        elif daemon.core.running():
            problems.append(f"{name} executes {daemon.core.running()} tasks")
        elif daemon.outbox.keys():
            problems.append(f"{name} has {len(daemon.outbox.keys())} results that nobody has heard")
    for run in world.runs().values():
        if run.state in forms.ENDED:
            problems += _agreed(world, run)
        if run.state == m.RUN_STATE_SUCCEEDED:
            problems += _kept(world, run)
    return problems


def _kept(world: World, run: m.Run) -> list[str]:
    """The outputs of a run that has ended well are there, on clusters that took part in its end; nothing else is."""
    problems = []
    wanted: dict[str, set[bytes]] = {}
    for output in run.outputs:
        if output.lost:
            continue
        wanted.setdefault(output.cluster, set()).add(output.unit.id)
    for cluster in sorted(wanted.keys() - run.fragments.keys()):
        problems.append(f"{run.name} has outputs of {cluster}, which has no part in it")
    held: dict[str, set[bytes]] = {}
    line = name_of(run)
    for daemon in world.daemons.values():
        keys = [key for key in daemon.journal.units if run_of(key[1]) == run.name]
        held.setdefault(daemon.cluster, set()).update(key[2] for key in keys if key[1] == line)
        if daemon.cluster not in world.ledger.out:
            others = {key[1] for key in keys if key[1] != line}
            problems += [f"{daemon.cluster} keeps units of {other}, which does not count" for other in sorted(others)]
    for cluster, units in held.items():
        if cluster in world.ledger.out:
            continue
        kept = wanted.get(cluster, set())
        if more := units - kept:
            problems.append(f"{cluster} keeps {len(more)} units of {run.name}, which has ended")
        if gone := kept - units:
            problems.append(f"{len(gone)} outputs of {run.name} are not on {cluster}, and nobody was told")
    return problems


def _agreed(world: World, run: m.Run) -> list[str]:
    """The hub's counters of a run are those of its clusters."""
    problems = []
    for cluster, stored in run.fragments.items():
        if cluster in world.ledger.out:
            continue
        agent = world.agents[cluster]
        try:
            there = agent.core.status(RunKey(run.namespace, name_of(run)))
        except KeyError:
            if run.state == m.RUN_STATE_SUCCEEDED:
                problems.append(f"{cluster} does not know {run.name}")
            continue
        if run.state != m.RUN_STATE_SUCCEEDED:
            continue
        counters = {step.step: (step.done, step.failed) for step in there.steps}
        told = {step.step: (step.done, step.failed) for step in stored.steps}
        if counters != told:
            problems.append(f"of {run.name} on {cluster} the hub knows {told}, the agent {counters}")
    return problems
