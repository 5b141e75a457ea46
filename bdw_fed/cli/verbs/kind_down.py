"""`kind down`: take the kind environment away."""

from __future__ import annotations

from bdw_fed.cli.exits import OK
from bdw_fed.cli.verbs.kind_up import KindState

EXAMPLES = """\
  bdw-fed kind down
"""


def command(state: KindState = None) -> int:
    """Delete the kind clusters that 'kind up' made, and no others, with all that the federation kept on them."""
    from bdw_fed.cli.kind import place_of, refused
    from bdw_fed.kind.removing import down

    with refused():
        names = down(place_of(state))
    print(f"deleted {', '.join(names)}" if names else "nothing to delete: there is no kind environment")
    return OK
