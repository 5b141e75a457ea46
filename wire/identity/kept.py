"""A certificate that is seen to by who has its authority, for a holder that can't ask for the next one.

    see_to: is the one in the files of this authority, and its time not up? ─ no ─▶ key.pem, cert.pem, ca.pem anew

The hub sees so to its own, and in a federation on this machine to etcd's and the user's. The holder does nothing: etcd
reads its files at each handshake, and so do our servers and channels.

Time is up when two thirds of the life are over. That is read from the certificate, by the wall clock, which is all that
counts where it is shown; one from the future, made while the clock was wrong, is replaced as well.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from wire.identity.authority import CLOCK_SLACK, Authority
from wire.identity.credentials import Credentials, belong_together
from wire.identity.roles import Identity

DAY = 86_400.0
_USED = 2 / 3


@dataclass(frozen=True)
class Kept:
    """Whose certificate, from whom, in which directory; used for `life` seconds, and valid for `grace` beyond.

    `loopback`: also for localhost and its addresses, see `Authority.issue`.
    """

    authority: Authority
    identity: Identity
    directory: Path
    life: float = 90 * DAY
    grace: float = 0.0
    loopback: bool = True

    def see_to(self) -> bool:
        """Make the next one if it is time. Returns whether it was. OSError where the files can't be written."""
        if self.is_good(datetime.datetime.now(datetime.UTC)):
            return False
        days = (self.life + self.grace) / DAY
        self.authority.issue(self.identity, self.directory, days=days, loopback=self.loopback)
        return True

    def is_good(self, now: datetime.datetime) -> bool:
        """Whether the files have a certificate of this authority, with its key, whose time is not up."""
        try:
            credentials = Credentials.load(self.directory)
            if not belong_together(credentials):  # a crash in the middle of `issue`
                return False
            certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self.authority.pem))
            if credentials.ca.read_bytes() != self.authority.pem:
                return False
        except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
            return False
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        valid = ends - begins - CLOCK_SLACK
        life = min(datetime.timedelta(seconds=self.life), valid)
        return begins <= now < begins + CLOCK_SLACK + life * _USED
