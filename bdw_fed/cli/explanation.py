"""A plan in words and tables: where each step may run, why not elsewhere, what is expected, and the alternatives."""

from __future__ import annotations

from collections.abc import Sequence

from bdw_fed.cli.output import show_table
from bdw_fed.cli.quantities import duration, share, size
from bdw_fed.v1 import model_pb2 as model

_NAMED = 5  # clusters in a row


def show_plan(plan: model.Plan, *, wide: bool = False) -> None:
    """Print a plan; `wide` shows also the steps that the planner added (sources, splits, outputs) and all transfers."""
    whose = f"run {plan.run}, revision {plan.revision}" if plan.run else "not submitted"
    print(f"Plan of workflow {plan.workflow} ({whose})")
    print(f"expected: {duration(plan.expected_seconds)}, {_cost(plan.expected_cost)} for what crosses\n")
    shown = [step for step in plan.steps if wide or not is_built_in(step.step)]
    show_table(*_step_rows(shown))
    show_skipped(plan)
    _show_filtered(shown)
    _show_scores(shown)
    _show_transfers(plan, wide)
    if plan.alternatives:
        print("\nInstead of")
        show_table(*alternative_rows(plan))
    for warning in plan.warnings:
        print(f"\nwarning: {warning}")


def show_skipped(plan: model.Plan) -> None:
    """What the workflow has, and the parameters leave out."""
    if plan.skipped:
        print("\nSkipped, because")
        show_table(["STEP", "REASON"], [[name, reason] for name, reason in sorted(plan.skipped.items())])


def is_built_in(step: str) -> bool:
    """Whether a step of a plan is a source, a split, a merge or an output, which no author wrote."""
    return step.startswith(("inputs.", "outputs.")) or step.endswith((".split", ".merge"))


def _cost(cost: float) -> str:
    return f"cost {cost:.4f}" if cost else "no cost"


def _step_rows(steps: Sequence[model.StepPlan]) -> tuple[list[str], list[list[str]]]:
    columns = ["STEP", "RUNS ON", ">UNITS", ">BYTES IN", ">SECONDS", "COUNTED BY"]
    reserves = any(item.slots for step in steps for item in step.shares)
    if reserves:
        columns.append("RESERVED")
    rows = []
    for step in steps:
        where = ", ".join(f"{item.cluster} {share(item.share)}" for item in step.shares) or "nowhere"
        row = [step.step, where, f"{step.expected_units:.0f}", size(step.expected_bytes_in)]
        row += [f"{step.expected_seconds:.1f}", step.counter or "-"]
        if reserves:
            row.append(", ".join(f"{item.cluster} {_slots(item.slots)}" for item in step.shares))
        rows.append(row)
    return columns, rows


def _slots(count: int) -> str:
    return f"{count} slot{'s' if count > 1 else ''}" if count else "shared"


def _show_filtered(steps: Sequence[model.StepPlan]) -> None:
    rows = [[step.step, _named(item.clusters), item.filter, item.reason] for step in steps for item in step.filtered]
    if rows:
        print("\nNot there, because")
        show_table(["STEP", "CLUSTERS", "FILTER", "REASON"], rows)


def _named(clusters: Sequence[str]) -> str:
    few = ", ".join(clusters[:_NAMED])
    return few if len(clusters) <= _NAMED else f"{few} and {len(clusters) - _NAMED} others"


def _show_scores(steps: Sequence[model.StepPlan]) -> None:
    rows = [
        [step.step, item.cluster, item.name, f"{item.value:+.0f}", f"{item.weight:g}", item.reason]
        for step in steps
        for item in step.scores
    ]
    if rows:
        print("\nScores (-100 to 100)")
        show_table(["STEP", "CLUSTER", "SCORE", ">VALUE", ">WEIGHT", "REASON"], rows)


def _show_transfers(plan: model.Plan, wide: bool) -> None:
    if not plan.transfers:
        return
    total = sum(item.bytes for item in plan.transfers)
    print(f"\nCrosses between clusters: {size(total)}")
    if wide:
        rows = [
            [item.edge, item.from_cluster, item.to_cluster, size(item.bytes), f"{item.seconds:.2f}", f"{item.cost:.4f}"]
            for item in plan.transfers
        ]
        show_table(["EDGE", "FROM", "TO", ">BYTES", ">SECONDS", ">COST"], rows)


def alternative_rows(plan: model.Plan) -> tuple[list[str], list[list[str]]]:
    """The plan and what it is held against, a row each."""
    planned = sum(item.bytes for item in plan.transfers)
    rows = [["this plan", size(planned), f"{plan.expected_seconds:.1f}", f"{plan.expected_cost:.4f}"]]
    rows += [[item.name, size(item.bytes), f"{item.seconds:.1f}", f"{item.cost:.4f}"] for item in plan.alternatives]
    return ["PLAN", ">BYTES CROSSING", ">SECONDS", ">COST"], rows
