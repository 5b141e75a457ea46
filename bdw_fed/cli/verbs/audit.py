"""`audit`: who wanted to change what, from where, and whether they might."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Output, State, connect
from bdw_fed.cli.output import Format, plain, show_table, show_values
from bdw_fed.cli.quantities import wall_clock
from bdw_fed.cli.roles import InNamespace

if TYPE_CHECKING:
    from bdw_fed.v1 import control_plane_pb2 as pb

EXAMPLES = """\
  bdw-fed audit                                    the newest hundred changes
  bdw-fed audit --since 24h --refused              what was refused since yesterday
  bdw-fed audit --user oidc:eve --since 2026-01-31 -o json
"""


def command(
    user: Annotated[str, Option(("--user",), "Only what this user wanted.", "USER")] = "",
    since: Annotated[
        str, Option(("--since",), "Not before: so long ago (2h, 7d), or a date, with a time or without.", "WHEN")
    ] = "",
    refused: Annotated[bool, Option(("--refused",), "Only what was refused.")] = False,
    limit: Annotated[int, Option(("--limit",), "The newest so many; at most 10000.", "NUMBER")] = 100,
    namespace: InNamespace = None,
    output: Output = Format.TABLE,
    state: State = None,
) -> None:
    """Show the audit log: one line for each change that somebody wanted, the newest last. Takes an admin.

    With several hubs, of all of them; one that can't be asked is named on standard error.
    """
    from bdw_fed.cli.exits import UsageError

    if not 1 <= limit <= 10_000:
        raise UsageError(f"--limit: {limit} is not between 1 and 10000")
    begin = _time_of(since) if since else 0.0
    with connect(state, None) as client:
        answer = client.audit(namespace=namespace, user=user, since=begin, refused=refused, limit=limit)
    if output.for_people:
        _show(answer, output is Format.WIDE)
    elif output is Format.NAME:
        for line in answer.lines:
            print(line.call)
    else:
        show_values([plain(line) for line in answer.lines], output)
    if answer.more:
        print(f"(older ones are not shown: --limit {limit})", file=sys.stderr)
    for hub in answer.unreachable:
        print(f"{hub} could not be asked just now: what it has written is missing here", file=sys.stderr)


def _show(answer: pb.ReadAuditResponse, wide: bool) -> None:
    rows = []
    for line in answer.lines:
        about = " ".join(f"{name}={value}" for name, value in sorted(line.about.items()))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
        row = [when, line.by, line.address, line.call, line.namespace, about or "-", "no" if line.refused else "yes"]
        rows.append([*row, line.hub, line.reason_refused or "-"] if wide else row)
    columns = ["WHEN", "WHO", "FROM", "CALL", "NAMESPACE", "ABOUT", "ALLOWED", *(["HUB", "WHY NOT"] if wide else [])]
    show_table(columns, rows)


def _time_of(text: str) -> float:
    """Unix time of so long ago, or of a date. UsageError if it is neither.

    >>> _time_of("1970-01-02T00:00:00+00:00")
    86400.0
    """
    import datetime

    from bdw_fed.cli.exits import UsageError
    from topology.errors import WrongValue
    from topology.quantity import parse_duration

    try:
        return wall_clock() - parse_duration(text)
    except WrongValue:
        pass
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        expected = "expected a duration such as 2h, or a date such as 2026-01-31 or 2026-01-31T12:00"
        raise UsageError(f"--since: {text} is no time: {expected}") from None
