"""`token delete`: let nobody join with a token."""

from __future__ import annotations

from typing import Annotated

from bdw_fed.cli.arguments import Argument
from bdw_fed.cli.options import State, connect

EXAMPLES = """\
  bdw-fed token delete 0f3c9a51d2
"""


def command(
    token: Annotated[str, Argument("Its id, as 'token list' shows it: what stands before the dot.", "TOKEN")],
    state: State = None,
) -> None:
    """Let nobody join with a token any more. Who has joined with it stays: see 'cluster revoke'."""
    with connect(state, None) as client:
        client.delete_token(token.partition(".")[0])
    print(f"token/{token.partition('.')[0]} deleted")
