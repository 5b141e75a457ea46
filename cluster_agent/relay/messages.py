"""What members and a relay say to each other before bytes pass through: few words, each in a frame of its own.

    member                                       relay
    Stand  on a connection that then stays   ─▶  Standing, and later Called for each who wants to speak to the member
    Decline  of a call, on the same          ─▶
    Revoked  certificates, on the same       ─▶
    Dial TO  on a connection for it alone    ─▶  Through, or Refused
    Answer TOKEN  the called one, likewise   ─▶  Through, or Refused

After Through the TLS of both connections ends, and what one member sends the other receives. A frame is a byte for the
version, two for the length, and msgpack. Members are named by their identities' URIs; who says something is known
from the certificate, so nobody says it.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import msgspec
from msgspec import Struct

VERSION: Final = 1
HEAD: Final = struct.Struct(">BH")
MOST_BYTES: Final = 60_000

Code = Literal["forbidden", "revoked", "away", "declined", "busy", "late", "gone"]


class Stand(Struct, frozen=True, tag="stand"):
    """This connection is for calls to me."""


class Dial(Struct, frozen=True, tag="dial"):
    """I want to speak to this member."""

    to: str


class Answer(Struct, frozen=True, tag="answer"):
    """I was called with this token, and here I am."""

    token: bytes


class Decline(Struct, frozen=True, tag="decline"):
    """I was called with this token, and won't come."""

    token: bytes
    why: str


class Revoked(Struct, frozen=True, tag="revoked"):
    """These certificates are revoked, as the authority has signed: what a `bdw_fed.v1.SignedRevocations` says."""

    list: bytes
    signature: bytes


class Standing(Struct, frozen=True, tag="standing"):
    """You will be called here."""


class Called(Struct, frozen=True, tag="called"):
    """Somebody wants to speak to you: open a connection, and answer with this token."""

    token: bytes
    by: str


class Through(Struct, frozen=True, tag="through"):
    """The other one is there. Nothing more is said by the relay."""


class Refused(Struct, frozen=True, tag="refused"):
    """It comes to nothing. `code` says whether it is worth trying again, `why` is for people."""

    code: Code
    why: str


FromMember = Stand | Dial | Answer | Decline | Revoked
FromRelay = Standing | Called | Through | Refused

_from_member: Final = msgspec.msgpack.Decoder(FromMember)
_from_relay: Final = msgspec.msgpack.Decoder(FromRelay)


def frame(message: FromMember | FromRelay) -> bytes:
    """As it is sent."""
    body = msgspec.msgpack.encode(message)
    return HEAD.pack(VERSION, len(body)) + body


def length(head: bytes) -> int:
    """How many bytes follow a frame's head. ValueError if it is none that we understand."""
    version, count = HEAD.unpack(head)
    if version != VERSION:
        raise ValueError(f"the other end speaks version {version} of the relay's words, we speak {VERSION}")
    if count > MOST_BYTES:
        raise ValueError(f"a word of {count} bytes, where {MOST_BYTES} are the most")
    return int(count)


def from_member(body: bytes) -> FromMember:
    """What a member says. ValueError."""
    said: FromMember = _from_member.decode(body)
    return said


def from_relay(body: bytes) -> FromRelay:
    """What a relay says. ValueError."""
    said: FromRelay = _from_relay.decode(body)
    return said
