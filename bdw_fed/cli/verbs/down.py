"""`down`: stop the federation on this machine."""

from __future__ import annotations

from bdw_fed.cli.exits import OK, RefusedError
from bdw_fed.cli.options import State

EXAMPLES = """\
  bdw-fed down
  bdw-fed down --state out/state
"""


def command(state: State = None) -> int:
    """Stop the federation that 'up' has started, in order, and wait until all of it has ended. Its state is kept."""
    from bdw_fed.client.connection import default_state
    from bdw_fed.embedded import control
    from bdw_fed.embedded.errors import EmbeddedError, NotUpError

    place = (state or default_state()).resolve()
    try:
        seconds = control.stop(place)
    except NotUpError:
        print(f"nothing to stop: no federation runs in {place}")
        return OK
    except EmbeddedError as error:
        raise RefusedError(str(error)) from error
    print(f"down in {seconds:.1f} s")
    return OK
