"""What is declared or expected beside what was measured: links, and steps on clusters. "-": nothing was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bdw_fed.cli.description import progress_of
from bdw_fed.cli.explanation import is_built_in
from bdw_fed.cli.output import show_table
from bdw_fed.cli.quantities import duration, size
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model

Table = tuple[list[str], list[list[str]]]


def show_cluster_figures(status: pb.ClusterStatus) -> None:
    """Links to a cluster, and the steps that it has executed where there was a choice."""
    if status.links:
        print("\nLinks, as declared and as measured")
        show_table(*link_rows(status.links))
    if status.steps:
        print("\nSteps, as measured")
        show_table(*step_rows(status.steps))


def show_link_figures(clusters: Iterable[pb.ClusterStatus]) -> None:
    """All links that any cluster has something to say of."""
    links = [link for cluster in clusters for link in cluster.links]
    if links:
        print("\nLinks between clusters, as declared and as measured")
        show_table(*link_rows(links))


def show_run_figures(run: model.Run, plan: model.Plan, clusters: Iterable[pb.ClusterStatus]) -> None:
    """What was expected of a run's steps and links when it was planned, beside what it has shown."""
    expected = {step.step: step for step in plan.steps}
    rows = []
    for step, cluster, progress in progress_of(run, (step.step for step in plan.steps)):
        if is_built_in(step) or step not in expected or not (progress.done or cluster in expected[step].task_seconds):
            continue
        planned = expected[step]
        share = next((each.share for each in planned.shares if each.cluster == cluster), 0.0)
        seconds = planned.task_seconds.get(cluster, 0.0)
        row = [step, cluster, f"{planned.expected_units * share:.0f}", str(progress.done)]
        row += [duration(seconds) if seconds else "-"]
        executed = progress.done - progress.cached
        rows.append([*row, duration(progress.busy_seconds / executed) if executed else "-"])
    if rows:
        print("\nSteps, as expected and as measured in this run")
        show_table(["STEP", "CLUSTER", ">TASKS PLANNED", ">DONE", ">A TASK EXPECTED", ">MEASURED"], rows)
    _show_crossed(run, plan)
    concerned = set(run.fragments)
    show_link_figures(cluster for cluster in clusters if cluster.name in concerned)


def _show_crossed(run: model.Run, plan: model.Plan) -> None:
    planned: dict[tuple[str, str], float] = {}
    for transfer in plan.transfers:
        link = (transfer.from_cluster, transfer.to_cluster)
        planned[link] = planned.get(link, 0.0) + transfer.bytes
    crossed = {(link.from_cluster, link.to_cluster): link for part in run.fragments.values() for link in part.traffic}
    rows = []
    for link in sorted({*planned, *crossed}):
        seen = crossed.get(link, model.LinkTraffic())
        rows.append([*link, size(planned.get(link, 0.0)), size(seen.bytes), str(seen.units)])
    if rows:
        print("\nLinks, as expected and as crossed by this run")
        show_table(["FROM", "TO", ">BYTES EXPECTED", ">CROSSED", ">UNITS"], rows)


def link_rows(links: Sequence[model.MeasuredLink]) -> Table:
    """A row for each link and direction."""
    columns = ["FROM", "TO", ">DECLARED", ">LATENCY", ">MEASURED", ">A TRANSFER TAKES", ">TRANSFERS", ">AGE"]
    rows = []
    for link in sorted(links, key=lambda link: (link.from_cluster, link.to_cluster)):
        row = [
            link.from_cluster,
            link.to_cluster,
            f"{size(link.declared_bandwidth)}/s",
            duration(link.declared_latency),
        ]
        if link.weight:
            row += [f"{size(link.bandwidth)}/s", f"{duration(link.fixed_seconds)} and its bytes"]
            row += [f"{link.weight:.1f}", duration(link.age)]
        else:
            row += ["-"] * 4
        rows.append(row)
    return columns, rows


def step_rows(steps: Sequence[model.MeasuredStep]) -> Table:
    """A row for each step version."""
    columns = ["STEP", ">A TASK", ">OF NO SIZE", ">A MEGABYTE", ">START OF A WORKER", ">TASKS", ">AGE"]
    rows = []
    for step in steps:
        if step.weight:
            row = [duration(step.mean_seconds), duration(step.fixed_seconds), duration(step.seconds_per_byte * 1e6)]
            row += [duration(step.start_seconds), f"{step.weight:.1f}", duration(step.age)]
        else:
            row = ["-"] * 6
        rows.append([step.definition, *row])
    return columns, rows
