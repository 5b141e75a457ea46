"""`wait`: until a run has ended."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Option
from bdw_fed.cli.options import Namespace, Output, RunName, State, connect
from bdw_fed.cli.output import Format, plain, show_values

EXAMPLES = """\
  bdw-fed wait delays-x7k2p
  bdw-fed wait delays-x7k2p --timeout 60 || bdw-fed describe run delays-x7k2p
"""


def command(
    run: RunName,
    timeout: Annotated[float | None, Option(("--timeout",), "Wait at most so long.", "SECONDS")] = None,
    output: Output = Format.TABLE,
    namespace: Namespace = None,
    state: State = None,
) -> int:
    """Wait until a run has ended. Exits 0 if it succeeded, 1 if not, 4 if it has not ended in time."""
    from bdw_fed.cli.progress import code_of, ending

    with connect(state, namespace) as client:
        ended = client.wait(run, timeout=timeout)
    if output in (Format.JSON, Format.YAML):
        show_values(plain(ended), output)
    elif output is Format.NAME:
        print(ended.name)
    else:
        print(ending(ended))
    return code_of(ended)
