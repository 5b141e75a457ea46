"""What goes wrong where somebody wants something of the hub."""

from __future__ import annotations


class InvalidSubject(Exception):
    """What a role is to be bound to can't be somebody's name."""


class NoSuchBinding(Exception):
    """The role that is to be taken away was never given."""


class TokenRefused(Exception):
    """A bearer token proves nothing; the words say why, and never what was in it."""


class IssuerUnavailable(Exception):
    """The token's issuer can't be asked for its keys just now, so nothing is known of the token."""


class NotWritten(Exception):
    """The audit log can't be written, so the change is not made."""
