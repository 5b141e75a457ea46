"""Quotas for a person: what namespaces may have, and what they have of it, cluster by cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bdw_fed.cli.listing import run_of
from bdw_fed.cli.output import show_pairs, show_table
from bdw_fed.cli.quantities import age, size, wall_clock
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model
from topology.quantity import parse_size

if TYPE_CHECKING:
    from bdw_fed.client import SyncClient

_ENDED = (model.RUN_STATE_SUCCEEDED, model.RUN_STATE_FAILED, model.RUN_STATE_CANCELLED)


def show_quotas(client: SyncClient, quotas: Sequence[pb.Object]) -> None:
    """One row for each quota: its runs, and the cluster on which most is stored."""
    now = wall_clock()
    stored = _stored(client)
    columns = ["NAME", ">RUNS", ">STORAGE", ">STORED", "ON", ">AGE"]
    rows = []
    for quota in quotas:
        storage, runs = _limits(quota)
        here = stored.get(quota.namespace, {}) if storage is not None else {}
        most = max(here, key=lambda cluster: (here[cluster], cluster), default="")
        row = [quota.name, _runs(client, runs), "-" if storage is None else size(storage)]
        rows.append([*row, size(here[most]) if most else "-", most or "-", age(quota.applied_at, now)])
    show_table(columns, rows)


def show_quota(client: SyncClient, quota: pb.Object) -> None:
    """All of one quota: what is stored on each cluster, as its agent has said last."""
    storage, runs = _limits(quota)
    by = f" by {quota.applied_by}" if quota.applied_by else ""
    show_pairs(
        {
            "Quota": quota.name,
            "Namespace": quota.namespace,
            "Runs": "not limited" if runs is None else f"{_runs(client, runs)} open",
            "Storage": "not limited" if storage is None else f"{size(storage)} on each cluster",
            "Revision": str(quota.revision),
            "Applied": f"{age(quota.applied_at, wall_clock())} ago{by}",
        }
    )
    here = _stored(client).get(quota.namespace, {})
    if storage is not None and here:
        print("\nStored")
        rows = [[cluster, size(used), size(storage), f"{used / storage:.0%}"] for cluster, used in sorted(here.items())]
        show_table(["CLUSTER", ">STORED", ">LIMIT", ">USED"], rows)


def _limits(quota: pb.Object) -> tuple[int | None, int | None]:
    """Bytes on each cluster, and runs; None: not limited."""
    spec = json.loads(quota.spec_json)["spec"]
    return (parse_size(spec["storage"]) if "storage" in spec else None), spec.get("runs")


def _runs(client: SyncClient, limit: int | None) -> str:
    """How many of the namespace's runs are open, of how many that may be."""
    if limit is None:
        return "-"
    runs = [run_of(item) for item in client.list("Run")]
    return f"{sum(run.state not in _ENDED and not run.hook_of for run in runs)}/{limit}"


def _stored(client: SyncClient) -> dict[str, dict[str, int]]:
    """Namespace -> cluster -> bytes."""
    found: dict[str, dict[str, int]] = {}
    for cluster in client.status().clusters:
        for each in cluster.stored:
            found.setdefault(each.namespace, {})[cluster.name] = each.bytes
    return found
