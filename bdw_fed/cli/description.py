"""One thing described for a person: a run with all that happened to it, a cluster, or a definition as it is stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bdw_fed.cli.explanation import is_built_in, show_skipped
from bdw_fed.cli.listing import cluster_rows, pool_rows
from bdw_fed.cli.marking import shown
from bdw_fed.cli.output import Format, show_pairs, show_table, show_values, word
from bdw_fed.cli.quantities import age, duration, kept, size, wall_clock
from bdw_fed.client.errors import NotFound
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient


def show_run(answer: pb.DescribeRunResponse) -> None:
    """A run: state and why, a table of its steps, failures, tasks, outputs, traffic."""
    run = answer.run
    now = wall_clock()
    pairs = {
        "Run": run.name,
        "Workflow": f"{run.workflow} (revision {run.workflow_revision})",
        "State": word(model.RunState, run.state),
        "Why": run.message or "-",
        "Parameters": _parameters(run.parameters_json),
        "Submitted": _when(run.submitted_at, now) + (f" by {run.submitted_by}" if run.submitted_by else ""),
        "Started": _when(run.started_at, now),
        "Ended": _when(run.ended_at, now),
    }
    if run.started_at:
        pairs["Took"] = duration(max(0.0, (run.ended_at or now) - run.started_at))
    show_pairs(pairs)
    if run.state == model.RUN_STATE_QUEUED:
        _show_reservation(run.reservation)
    elif run.fragments:
        print("\nSteps, as executed")
        show_table(*step_rows(run, answer.plan))
        show_skipped(answer.plan)
        _show_stored(run)
    show_failures(run)
    _show_tasks(answer.tasks)
    if run.outputs:
        print("\nOutputs")
        show_table(*_output_rows(run, now))
        for item in run.outputs:
            if item.lost:
                print(f"{item.file} is lost: {item.lost}; resubmit the run to have it made again")
    rows = traffic_rows(run)
    if rows:
        print("\nCrossed between clusters")
        show_table(["FROM", "TO", ">UNITS", ">BYTES", ">SECONDS"], rows)
    for cluster in answer.unreachable:
        print(f"\n{cluster} could not be asked just now: what is shown of it may be old")


def _output_rows(run: model.Run, now: float) -> tuple[list[str], list[list[str]]]:
    """One row for each output; until when it is kept, where the workflow says that."""
    timed = any(item.retain for item in run.outputs)
    rows = []
    for item in run.outputs:
        row = [item.name, item.file, size(item.unit.size), kept_on(item)]
        if timed:
            row.append(kept(run.ended_at + item.retain if item.retain and run.ended_at else 0.0, now))
        rows.append(row)
    return ["OUTPUT", "FILE", ">SIZE", "KEPT ON", *(["KEPT UNTIL"] if timed else [])], rows


def kept_on(output: model.RunOutput) -> str:
    """The cluster and the node that have an output."""
    return f"{output.cluster}/{output.node or '-'}" if not output.lost else f"{output.cluster}: lost"


def _show_stored(run: model.Run) -> None:
    """What a run with a quota has stored on each cluster."""
    told = [(cluster, each) for cluster, each in sorted(run.fragments.items()) if each.quota]
    if told:
        print("\nStored, within the run's quota")
        rows = [[cluster, size(each.stored), size(each.quota)] for cluster, each in told]
        show_table(["CLUSTER", ">STORED", ">LIMIT"], rows)


def _show_reservation(told: model.Reservation) -> None:
    """How far a run that waits for its slots has come with each cluster of its plan."""
    print(f"\nReserving slots ({told.mode}), attempt {told.attempts}")
    rows = []
    for cluster in sorted({*told.clusters, *told.denied}):
        reason = told.denied.get(cluster, "")
        state = "denied" if reason else "held" if cluster in told.reserved else "asked" if told.epoch else "not asked"
        rows.append([cluster, state, reason or "-"])
    show_table(["CLUSTER", "SLOTS", "WHY"], rows)


def skipped(progress: model.StepProgress) -> int:
    """Tasks that the run went on without: they failed, or the condition of their step did not hold."""
    return progress.skipped + progress.given_up + progress.unmet


def step_rows(run: model.Run, plan: model.Plan) -> tuple[list[str], list[list[str]]]:
    """The counters of a run, a row for each step and cluster, in the order of the plan's steps."""
    columns = ["STEP", "CLUSTER", ">WAITING", ">RUNNING", ">DONE", ">FAILED", ">BYTES OUT", ">BUSY", "STATE"]
    reserves = bool(run.reservation.mode)
    if reserves:
        columns += [">HELD", ">USED", ">LENT"]
    skips = any(skipped(progress) for fragment in run.fragments.values() for progress in fragment.steps)
    if skips:
        columns.append(">SKIPPED")
    caches = any(progress.cached for fragment in run.fragments.values() for progress in fragment.steps)
    if caches:
        columns.append(">CACHED")
    waits = any(progress.waits_for for fragment in run.fragments.values() for progress in fragment.steps)
    if waits:
        columns.append("WAITS FOR")
    rows = []
    for step, cluster, progress in progress_of(run, (step.step for step in plan.steps)):
        if is_built_in(step) and not progress.waits_for:
            continue
        state = "closed" if progress.closed else "open"
        row = [step, cluster, str(progress.waiting), str(progress.running), str(progress.done), str(progress.failed)]
        row += [size(progress.bytes_out), duration(progress.busy_seconds), state]
        if reserves:
            row += [str(progress.held), str(progress.used), str(progress.lent)]
        if skips:
            row.append(str(skipped(progress)))
        if caches:
            row.append(str(progress.cached))
        if waits:
            row.append(progress.waits_for or "-")
        rows.append(row)
    return columns, rows


def progress_of(run: model.Run, steps: Iterable[str]) -> list[tuple[str, str, model.StepProgress]]:
    """Step, cluster and counters of all that a run's clusters report, in the plan's order of `steps`."""
    order = {step: index for index, step in enumerate(steps)}
    found = []
    for cluster, fragment in sorted(run.fragments.items()):
        for progress in fragment.steps:
            order.setdefault(progress.step, len(order))
            found.append((progress.step, cluster, progress))
    return sorted(found, key=lambda item: (order[item[0]], item[1]))


def show_failures(run: model.Run) -> None:
    """What failed, with the worker's own last words."""
    for cluster, fragment in sorted(run.fragments.items()):
        for failure in fragment.failures:
            where = f"{failure.step} on {failure.cluster or cluster}" + (f"/{failure.node}" if failure.node else "")
            attempt = f", attempt {failure.attempt}" if failure.attempt else ""  # none where an input can't be read
            print(f"\nFailed: {where}{attempt} ({failure.kind}): {failure.message}")
            if failure.task:
                print(f"  task {failure.task.hex()}")
            for line in failure.detail.rstrip().splitlines():
                print(f"  | {line}")
        if fragment.failures_left_out:
            older = fragment.failures_left_out
            print(f"\n({older} older {'failure' if older == 1 else 'failures'} on {cluster} not shown)")


def _show_tasks(tasks: Sequence[pb.TaskInfo]) -> None:
    if not tasks:
        return
    print("\nTasks that run, wait or failed")
    rows = []
    for task in tasks:
        where = f"{task.cluster}/{task.node}" if task.node else task.cluster
        row = [task.step, task.task.hex()[:8], where, task.state, str(task.attempt), duration(task.seconds)]
        rows.append([*row, ", ".join(task.inputs[:3]) + (" …" if len(task.inputs) > 3 else "")])
    show_table(["STEP", "TASK", "WHERE", "STATE", ">ATTEMPT", ">FOR", "INPUTS"], rows)


def traffic_rows(run: model.Run) -> list[list[str]]:
    """What crossed each link: from, to, units, bytes, seconds."""
    rows = []
    for _, fragment in sorted(run.fragments.items()):
        for link in fragment.traffic:
            row = [link.from_cluster, link.to_cluster, str(link.units), size(link.bytes), f"{link.seconds:.1f}"]
            rows.append(row)
    return rows


def show_cluster(client: SyncClient, name: str) -> pb.ClusterStatus:
    """A cluster and its nodes, as the hub sees them just now. Returns what is known of it."""
    status = client.status()
    found = [cluster for cluster in status.clusters if cluster.name == name]
    if not found:
        known = ", ".join(cluster.name for cluster in status.clusters) or "none"
        raise NotFound(f"there is no cluster {name} (there are: {known})")
    show_table(*cluster_rows(found, True))
    print()
    show_table(*node_rows(found[0].nodes))
    if any(node.tiers for node in found[0].nodes):
        print("\nWhere units lie")
        show_table(*tier_rows(found[0].nodes))
    for node in found[0].nodes:
        if node.scrub.ended or node.scrub.damaged:
            print(f"{node.name}: {scrubbed(node.scrub)}")
    if found[0].taints:
        print("\nTaints beside those of its topology")
        rows = [[shown([each]), each.by, age(each.since, wall_clock())] for each in found[0].taints]
        show_table(["TAINT", "BY", ">AGE"], rows)
    if found[0].held:
        print("\nSlots reserved")
        show_table(*held_rows(found[0].held))
    if found[0].pools:
        print("\nPools of warm workers")
        show_table(*pool_rows(found[0].pools))
    if found[0].peers:
        print("\nPeers")
        show_table(["PEER", "PATH", "RELAY"], [[peer.cluster, peer.path, peer.relay or "-"] for peer in found[0].peers])
    return found[0]


def node_rows(nodes: Sequence[pb.NodeStatus]) -> tuple[list[str], list[list[str]]]:
    """One row for each node of a cluster."""
    columns = ["NODE", "READY", ">CPUS", ">MEMORY", ">WORKERS", ">RUNNING", ">STORED", ">DISK FREE", ">PID"]
    rows = []
    for node in nodes:
        away = "revoked" if node.revoked else "no"
        ready = "cordoned" if node.ready and node.cordoned else "yes" if node.ready else away
        row = [node.name, ready, f"{node.cpus:g}", size(node.memory), str(node.workers)]
        rows.append([*row, str(node.running), size(node.stored_bytes), size(node.disk_free), str(node.pid)])
    return columns, rows


def tier_rows(nodes: Sequence[pb.NodeStatus]) -> tuple[list[str], list[list[str]]]:
    """One row for each tier of each node."""
    rows = []
    for node in nodes:
        for tier in node.tiers:
            counted = tier.name != "shared"
            used, budget = size(tier.used) if counted else "-", size(tier.budget) if tier.budget else "-"
            rows.append([node.name, tier.name, used, budget, tier.place or "-"])
    return ["NODE", "TIER", ">USED", ">OF", "PLACE"], rows


def scrubbed(scrub: pb.NodeStatus.Scrub) -> str:
    """What came of reading again all that a node stores."""
    when = f"{age(scrub.ended, wall_clock())} ago" if scrub.ended else "not yet"
    return f"all that it stores was last read again {when}; {scrub.damaged} contents were found damaged so far"


def held_rows(held: Sequence[pb.HeldSlots]) -> tuple[list[str], list[list[str]]]:
    """One row for each step of a run that holds slots on a cluster."""
    rows = []
    for each in held:
        row = [each.run, each.step, str(each.held), str(each.used), str(each.lent)]
        rows.append([*row, "not committed" if each.half else "committed"])
    return ["RUN", "STEP", ">HELD", ">USED", ">LENT", "STATE"], rows


def show_definition(item: pb.Object) -> None:
    """A step, workflow or topology: where it comes from, and its canonical form as YAML."""
    pairs = {
        item.kind: item.name,
        "Revision": str(item.revision),
        "Applied": _when(item.applied_at, wall_clock()) + (f" by {item.applied_by}" if item.applied_by else ""),
        "Digest": item.digest.hex(),
    }
    if item.bundle:
        pairs["Bundle"] = item.bundle.hex()
    show_pairs(pairs)
    print()
    show_values(json.loads(item.spec_json) if item.spec_json else {}, Format.YAML)


def _parameters(text: str) -> str:
    values = json.loads(text) if text else {}
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in values.items()) or "-"


def _when(then: float, now: float) -> str:
    if not then:
        return "-"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(then))} ({age(then, now)} ago)"
