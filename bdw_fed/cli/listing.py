"""Objects as rows and values: what `get` shows for each kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bdw_fed.cli.marking import state_of
from bdw_fed.cli.output import Format, plain, show_table, show_values, word
from bdw_fed.cli.protojson import from_values
from bdw_fed.cli.quantities import age, ahead, duration, size, wall_clock
from bdw_fed.client.errors import NotFound
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient


def show_objects(
    kind: str, objects: Sequence[pb.Object], form: Format, *, one: bool = False, gone: bool = False
) -> None:
    """Objects of one kind in the form asked for; `one`: a single value, not a list."""
    if form is Format.NAME:
        for item in objects:
            print(f"{item.kind.lower()}/{item.name}")
        return
    if not form.for_people:
        values = [_values(item) for item in objects]
        if gone:
            values = [{**value, "deleted": True} for value in values]
        show_values(values[0] if one else values, form)
        return
    if not objects:
        print(f"there are no {kind.lower()}s in this namespace")
        return
    wide = form is Format.WIDE
    if kind == "Run":
        columns, rows = run_rows([run_of(item) for item in objects], wide)
    else:
        columns, rows = _definition_rows(objects, wide)
    if gone:
        rows = [[*row[:-1], "deleted"] for row in rows]
    show_table(columns, rows)


def run_of(item: pb.Object) -> model.Run:
    """The run in an object of kind Run."""
    return from_values(json.loads(item.spec_json or "{}"), model.Run())


def run_rows(runs: Sequence[model.Run], wide: bool) -> tuple[list[str], list[list[str]]]:
    """One row for each run, the newest first."""
    now = wall_clock()
    columns = ["NAME", "WORKFLOW", "STATE", ">DONE", ">AGE", ">TOOK"]
    queued = any(run.state == model.RUN_STATE_QUEUED for run in runs)
    if wide:
        columns += ["CLUSTERS", "BY", "WHY"]
    elif queued:
        columns.append("WHY")
    rows = []
    for run in sorted(runs, key=lambda run: -run.submitted_at):
        done = sum(step.done for fragment in run.fragments.values() for step in fragment.steps)
        end = run.ended_at or now
        row = [run.name, run.workflow, word(model.RunState, run.state), str(done), age(run.submitted_at, now)]
        row.append(duration(max(0.0, end - run.started_at)) if run.started_at else "-")
        if wide:
            row += [",".join(sorted(run.fragments)) or "-", run.submitted_by or "-", run.message or "-"]
        elif queued:
            row.append(run.message or "-")
        rows.append(row)
    return columns, rows


def _definition_rows(objects: Sequence[pb.Object], wide: bool) -> tuple[list[str], list[list[str]]]:
    now = wall_clock()
    columns = ["NAME", ">REVISION", ">AGE"] + (["DIGEST", "BUNDLE", "BY"] if wide else [])
    rows = []
    for item in objects:
        row = [item.name, str(item.revision), age(item.applied_at, now)]
        if wide:
            row += [item.digest.hex()[:12], item.bundle.hex()[:12] or "-", item.applied_by or "-"]
        rows.append(row)
    return columns, rows


def _values(item: pb.Object) -> dict[str, Any]:
    if item.kind == "Run":
        return plain(run_of(item))
    values = plain(item)
    values["definition"] = json.loads(values.pop("specJson") or "null")
    return values


def show_clusters(client: SyncClient, name: str | None, form: Format) -> None:
    """The clusters as the hub sees them. NotFound for a name that none has."""
    clusters = list(client.status().clusters)
    if name is not None:
        known = ", ".join(cluster.name for cluster in clusters) or "none"
        clusters = [cluster for cluster in clusters if cluster.name == name]
        if not clusters:
            raise NotFound(f"there is no cluster {name} (there are: {known})")
    if form is Format.NAME:
        for cluster in clusters:
            print(f"cluster/{cluster.name}")
        return
    if not form.for_people:
        values = [plain(cluster) for cluster in clusters]
        show_values(values[0] if name is not None else values, form)
        return
    show_table(*cluster_rows(clusters, form is Format.WIDE))


def show_pools(client: SyncClient, step: str | None, form: Format) -> None:
    """The pools of warm workers on all clusters, or those of one step version. NotFound if none has any."""
    clusters = client.status().clusters
    found = [(each.name, pool) for each in clusters for pool in each.pools if step in (None, pool.definition)]
    if step is not None and not found:
        known = ", ".join(sorted({pool.definition for each in clusters for pool in each.pools})) or "none"
        raise NotFound(f"no cluster has a pool of {step} just now (there are: {known})")
    if form is Format.NAME:
        for cluster, pool in found:
            print(f"pool/{pool.definition}@{cluster}")
    elif not form.for_people:
        show_values([{"cluster": cluster, **plain(pool)} for cluster, pool in found], form)
    elif not found:
        print("no cluster has a pool just now: no run needs workers")
    else:
        columns, rows = pool_rows([pool for _, pool in found])
        show_table(["CLUSTER", *columns], [[cluster, *row] for (cluster, _), row in zip(found, rows, strict=True)])


def pool_rows(pools: Sequence[pb.PoolStatus]) -> tuple[list[str], list[list[str]]]:
    """One row for each pool of a cluster."""
    columns = ["POOL", ">DESIRED", ">STARTING", ">IDLE", ">BUSY", ">QUEUED", ">A TASK", ">A START", "WHY"]
    rows = []
    for pool in pools:
        counts = (pool.desired, pool.starting, pool.idle, pool.busy, pool.queued)
        times = (pool.service_seconds, pool.start_seconds)
        row = [pool.definition, *map(str, counts), *(duration(time) if time else "-" for time in times)]
        rows.append([*row, pool.reason.partition("\n")[0] or "-"])
    return columns, rows


def cluster_rows(clusters: Sequence[pb.ClusterStatus], wide: bool) -> tuple[list[str], list[list[str]]]:
    """One row for each cluster."""
    now = wall_clock()
    columns = ["CLUSTER", "ZONE", "TIER", "STATE", ">NODES", ">TASKS", ">RUNS", ">SEEN"]
    if wide:
        columns += [">CPUS", ">MEMORY", ">STORED", ">CLOCK", "VERSION", "GATEWAY"]
    rows = []
    for cluster in clusters:
        ready = sum(node.ready for node in cluster.nodes)
        running = sum(node.running for node in cluster.nodes)
        row = [cluster.name, cluster.zone, cluster.tier, state_of(cluster), f"{ready}/{len(cluster.nodes)}"]
        row += [str(running), str(cluster.runs), age(cluster.last_seen, now)]
        if wide:
            row.append(f"{sum(node.cpus for node in cluster.nodes):g}")
            row.append(size(sum(node.memory for node in cluster.nodes)))
            row.append(size(sum(node.stored_bytes for node in cluster.nodes)))
            row.append(ahead(cluster.clock_ahead) if cluster.HasField("clock_ahead") else "-")
            row += [cluster.version or "-", cluster.gateway_address or "-"]
        rows.append(row)
    return columns, rows
