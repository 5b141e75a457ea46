"""When a step is closed: its counter cluster has heard of all that came in being consumed, so what went out is final.

Executors tell the counter what they have consumed and produced, cumulatively, as sums of ids, but only when it could
matter: once the step's producers are closed and nothing that came here waits. Equal sums mean that every unit is
accounted for, on whichever cluster its task ran. The closing is told to whoever executes or counts the step or its
consumers; a counter that executes needs no message to itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.fragment import SOURCE, Edge, Step
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.state import Report, StepState
from cluster_agent.coordinator.stored import Sum
from cluster_agent.coordinator.tasks import batching, crossing, grouping, meeting, records
from cluster_agent.coordinator.units import fetching
from cluster_agent.coordinator.units.freeing import let_go_if_due


def check_steps(book: Book, live: LiveRun) -> None:
    """Form, report and close whatever is due, until nothing more follows; at most one report a step leaves."""
    reporting: set[int] = set()
    while live.check and live.going:
        index = min(live.check)
        live.check.discard(index)
        step = live.graph.steps[index]
        state = live.run.steps[index]
        if state.open:
            fetching.bring_copies(book, live, step)
        grouping.form_due(book, live, step)
        batching.batch_due(book, live, step)
        crossing.cross_due(book, live, step)
        meeting.form_due(book, live, step)
        if state.closed or not (step.counts or step.here):
            continue
        if not _settled_here(live, step, state):
            continue
        if step.counts:
            _close_if_due(book, live, step)
        else:
            reporting.add(index)
    for index in sorted(reporting):
        _report(book, live, live.graph.steps[index])


def _settled_here(live: LiveRun, step: Step, state: StepState) -> bool:
    """Nothing that this cluster could still do for the step is known of, so that its sums may be the last."""
    if step.kind == SOURCE:
        return live.parts_open(step.index)
    if state.open or not all(live.run.steps[producer.index].closed for producer in step.producers):
        return False
    if step.gathers or not step.inputs:
        return state.done > 0 or not grouping.gathers_here(live, step)
    return True


def own_report(live: LiveRun, step: Step) -> Report:
    """What this cluster has done of a step."""
    state = live.run.steps[step.index]
    done = step.kind == SOURCE and live.parts_open(step.index)
    return Report(state.consumed, state.produced, state.done, done)


def _report(book: Book, live: LiveRun, step: Step) -> None:
    own = own_report(live, step)
    message = peer_pb2.PeerMessage.FromString(live.header)
    report = message.report
    report.step = step.name
    report.tasks = own.tasks
    report.source_done = own.source_done
    for port, consumed in own.consumed.items():
        report.consumed[port].count = consumed.count
        report.consumed[port].sum = consumed.total
    for port, produced in own.produced.items():
        report.produced[port].count = produced.count
        report.produced[port].sum = produced.total
    book.say(live, step.counter, message.SerializeToString())


def on_report(book: Book, live: LiveRun, cluster: str, message: peer_pb2.StepReport) -> None:
    """An executor's sums for a step that we count."""
    step = live.graph.step_by_name.get(message.step)
    if step is None or not step.counts or live.run.steps[step.index].closed:
        return
    book.commit(
        records.Reported(
            live.key,
            step.index,
            cluster,
            {port: (digest.count, digest.sum) for port, digest in sorted(message.consumed.items())},
            {port: (digest.count, digest.sum) for port, digest in sorted(message.produced.items())},
            message.tasks,
            message.source_done,
        )
    )


def _close_if_due(book: Book, live: LiveRun, step: Step) -> None:
    reports = dict(live.run.steps[step.index].reports)
    if step.here or not step.inputs:
        reports[book.cluster] = own_report(live, step)
    if not _accounted(live, step, reports):
        return
    produced: dict[str, dict[str, tuple[int, bytes]]] = {}
    for cluster in sorted(reports):
        for port, made in reports[cluster].produced.items():
            produced.setdefault(port, {})[cluster] = (made.count, made.total)
    book.commit(records.Closed(live.key, step.index, produced))
    book.publish(live, "step.closed", step.name, b"", {"units": _count(step, produced)})
    if not step.audience:
        return
    message = peer_pb2.PeerMessage.FromString(live.header)
    message.closed.step = step.name
    for port, by_cluster in produced.items():
        for cluster, (count, total) in by_cluster.items():
            digest = message.closed.produced[port].by_cluster[cluster]
            digest.count = count
            digest.sum = total
    serialised = message.SerializeToString()
    for cluster in step.audience:
        book.say(live, cluster, serialised)


def _count(step: Step, produced: Mapping[str, Mapping[str, tuple[int, bytes]]]) -> int:
    return sum(count for port in step.ports for count, _ in produced.get(port, {}).values())


def _accounted(live: LiveRun, step: Step, reports: dict[str, Report]) -> bool:
    if step.kind == SOURCE:
        return all(cluster in reports and reports[cluster].source_done for cluster in step.executors)
    if not all(live.run.steps[producer.index].closed for producer in step.producers):
        return False
    if (not step.inputs or step.gathers) and not any(report.tasks for report in reports.values()):
        return False
    return all(_made(live, edge) == _consumed(edge, reports) for edge in step.inputs if not edge.side)


def _made(live: LiveRun, edge: Edge) -> Sum:
    return grouping.made(live, edge)


def _consumed(edge: Edge, reports: dict[str, Report]) -> Sum:
    union = Sum()
    for report in reports.values():
        taken = report.consumed.get(edge.port)
        if taken is not None:
            union.include(taken)
    return union


def on_closed(book: Book, live: LiveRun, message: peer_pb2.StepClosed) -> None:
    """The counter of a step says that it is closed."""
    step = live.graph.step_by_name.get(message.step)
    if step is None or live.run.steps[step.index].closed:
        return
    produced = {
        port: {cluster: (digest.count, digest.sum) for cluster, digest in sorted(made.by_cluster.items())}
        for port, made in message.produced.items()
    }
    book.commit(records.Closed(live.key, step.index, {port: produced[port] for port in sorted(produced)}))


def apply_reported(book: Book, record: records.Reported) -> None:
    """See records."""
    live = book.lives[record.run]
    live.run.steps[record.step].reports[record.cluster] = Report(
        {port: Sum(*digest) for port, digest in record.consumed.items()},
        {port: Sum(*digest) for port, digest in record.produced.items()},
        record.tasks,
        record.source_done,
    )
    live.check.add(record.step)
    book.touch(live)


def apply_closed(book: Book, record: records.Closed) -> None:
    """See records."""
    live = book.lives[record.run]
    step = live.graph.steps[record.step]
    state = live.run.steps[step.index]
    state.closed = True
    state.reports = {}
    state.final = {
        port: {cluster: Sum(*digest) for cluster, digest in by_cluster.items()}
        for port, by_cluster in record.produced.items()
    }
    if step.here or step.counts:
        live.unclosed -= 1
    let_go_if_due(book, live, step)
    book.stirred[live, step.index] = None
    live.check.update(consumer.index for consumer in step.consumers)
    book.touch(live)
