"""What can be wrong with joining and with who may join; the messages are meant for people."""

from __future__ import annotations


class MembershipError(Exception):
    """Any of them."""


class NoAuthority(MembershipError):
    """This hub can't certify anybody."""


class NoSuchToken(MembershipError):
    """There is no token of that id."""


class NobodyWaits(MembershipError):
    """No key of the cluster waits to be accepted, or none that was meant for sure."""


class BadWish(MembershipError):
    """What is wished can't be meant as it is."""


class NotHeardYet(MembershipError):
    """Who asks does not know yet of a revocation that matters to what is asked."""


class JoinRefused(MembershipError):
    """The token lets nobody in, or not this one."""
