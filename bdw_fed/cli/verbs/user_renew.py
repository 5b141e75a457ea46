"""`user renew`: our own certificate, in time."""

from __future__ import annotations

from bdw_fed.cli.options import Namespace, State, connect

EXAMPLES = """\
  bdw-fed user renew
  bdw-fed user renew --state ~/for-eve --namespace flights
"""


def command(namespace: Namespace = None, state: State = None) -> None:
    """Have your own certificate renewed by the hub, for a new key, before it ends. Takes any role in the namespace.

    The hub needs the authority's key. Who logs in with a token has no certificate to renew.
    """
    with connect(state, namespace) as client:
        ends = client.renew_certificate()
        print(f"your certificate in {client.profile.credentials} is good until {ends.astimezone():%Y-%m-%d %H:%M}")
