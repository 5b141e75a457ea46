"""`token list`: who may still join, who did, and who waits."""

from __future__ import annotations

from bdw_fed.cli.options import Output, State, connect
from bdw_fed.cli.output import Format, plain, show_table, show_values
from bdw_fed.cli.quantities import age, duration, wall_clock

EXAMPLES = """\
  bdw-fed token list
  bdw-fed token list -o wide      with the keys that came
"""


def command(output: Output = Format.TABLE, state: State = None) -> None:
    """Show the tokens, without their secrets. One that has expired is shown for another week."""
    with connect(state, None) as client:
        tokens = client.tokens()
    if output is Format.NAME:
        for token in tokens:
            print(f"token/{token.id}")
        return
    if not output.for_people:
        show_values([plain(token) for token in tokens], output)
        return
    now = wall_clock()
    wide = output is Format.WIDE
    rows = []
    for token in tokens:
        left = duration(token.expires_at - now) if token.state == "unused" else "-"
        row = [token.id, token.cluster, token.state, age(token.created_at, now), token.created_by, left]
        rows.append([*row, token.presented_from or "-", token.key or "-"] if wide else row)
    columns = ["TOKEN", "CLUSTER", "STATE", ">AGE", "BY", ">LEFT", *(["USED FROM", "KEY"] if wide else [])]
    show_table(columns, rows)
