"""What can go wrong with becoming a member; the messages say what to do."""

from __future__ import annotations


class JoinError(Exception):
    """It will not succeed by trying again: the token, the hash or something else that was given is wrong."""


class NotNowError(Exception):
    """Who has to be asked can't be reached, or can't answer, just now."""
