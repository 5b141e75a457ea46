"""The messages of the conversation as bytes: lines of JSON, or messages of `service.proto` behind their lengths.

    {"hello": {"version": 1}}                          a line: an object with one field, which says what it is
    05 0a 03 …                                         a varint, and so many bytes

Fields that we don't know are left unread in both, so that a service may be newer than we are.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from bdw_fed.v1 import service_pb2 as pb
from cluster_agent.runtimes.services.messages import (
    Cancel,
    Drain,
    Failure,
    Hello,
    Log,
    Ping,
    Pong,
    Ready,
    Result,
    Said,
    Task,
    Told,
)

MOST_BYTES: Final = 4 << 20  # of a message of a service
_SAID: Final[Mapping[str, type[Said]]] = {"hello": Hello, "ready": Ready, "result": Result, "log": Log, "pong": Pong}
_TOLD: Final[Mapping[type[Told], str]] = {Task: "task", Cancel: "cancel", Ping: "ping", Drain: "drain"}
_SHOWN: Final = 80
_LONGEST_VARINT: Final = 5
_MORE: Final = 0x80


class CodingError(Exception):
    """What a service has sent is no message; the text says what it is."""


class Coding(abc.ABC):
    """One direction's bytes to messages, and the other's messages to bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def read(self, data: bytes) -> Iterator[Said]:
        """The messages that are complete with these bytes. CodingError."""
        self._buffer += data
        while (body := self._next()) is not None:
            yield self._said(body)

    @abc.abstractmethod
    def write(self, told: Told) -> bytes:
        """A message for the service."""

    @abc.abstractmethod
    def _next(self) -> bytes | None:
        """The next message, cut off the buffer; None if it is not all there yet. CodingError if it can't be one."""

    @abc.abstractmethod
    def _said(self, body: bytes) -> Said:
        """What a message says. CodingError."""


def coding(protocol: str) -> Coding:
    """That of a protocol, json or proto."""
    return Delimited() if protocol == "proto" else Lines()


class Lines(Coding):
    """JSON, an object a line."""

    def write(self, told: Told) -> bytes:
        return msgspec.json.encode({_TOLD[type(told)]: told}) + b"\n"

    def _next(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\n")
            if end > MOST_BYTES or (end < 0 and len(self._buffer) > MOST_BYTES):
                raise CodingError(f"it sent a line of more than {MOST_BYTES >> 20} MiB")
            if end < 0:
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                return line

    def _said(self, body: bytes) -> Said:
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise CodingError(f"it sent {_shown(body)}, which is no line of JSON: {error}") from None
        if not isinstance(told, dict) or len(told) != 1:
            expected = f"an object with one field, which is one of {', '.join(_SAID)}"
            raise CodingError(f"it sent {_shown(body)}, but expected is {expected}")
        [(name, fields)] = told.items()
        if name not in _SAID:
            raise CodingError(f"it sent {name[:_SHOWN]!r}, but expected is one of {', '.join(_SAID)}")
        try:
            return msgspec.convert(fields, _SAID[name])
        except msgspec.ValidationError as error:
            raise CodingError(f"it sent {_shown(body)}: {error}") from None


class Delimited(Coding):
    """Messages of `service.proto`."""

    def write(self, told: Told) -> bytes:
        body = pb.ServiceTold(**{_TOLD[type(told)]: _proto(told)}).SerializeToString()
        return _varint(len(body)) + body

    def _next(self) -> bytes | None:
        length = 0
        for at, byte in enumerate(self._buffer[:_LONGEST_VARINT]):
            length |= (byte & ~_MORE) << (7 * at)
            if byte & _MORE:
                continue
            if length > MOST_BYTES:
                raise CodingError(f"it sent a message of {length} bytes, and more than {MOST_BYTES} can be none")
            end = at + 1 + length
            if len(self._buffer) < end:
                return None
            body = bytes(self._buffer[at + 1 : end])
            del self._buffer[:end]
            return body
        if len(self._buffer) >= _LONGEST_VARINT:
            raise CodingError("it sent a length that is no varint of a message's")
        return None

    def _said(self, body: bytes) -> Said:
        try:
            told = pb.ServiceSays.FromString(body)
        except DecodeError as error:
            raise CodingError(f"it sent what is no ServiceSays of service.proto: {error}") from None
        match told.WhichOneof("kind"):
            case "hello":
                return Hello(told.hello.version)
            case "ready":
                return Ready()
            case "result":
                result = told.result
                if not result.HasField("failure"):
                    return Result(result.id)
                failure = result.failure
                return Result(result.id, Failure(failure.message, failure.detail, failure.kind))
            case "log":
                return Log(told.log.text, told.log.id, told.log.error)
            case "pong":
                return Pong()
        raise CodingError(f"it sent a ServiceSays that says nothing; expected is one of {', '.join(_SAID)}")


def _proto(told: Told) -> Any:
    match told:
        case Task():
            inputs = {
                port: pb.ServiceInput(paths=[paths] if isinstance(paths, str) else paths, many=isinstance(paths, list))
                for port, paths in told.inputs.items()
            }
            return pb.ServiceTask(
                id=told.id,
                directory=told.directory,
                temporary=told.temporary,
                inputs=inputs,
                outputs=told.outputs,
                parameters_json=json.dumps(dict(told.parameters), ensure_ascii=False),
                timeout=told.timeout,
                task=told.task,
                attempt=told.attempt,
                run=told.run,
                step=told.step,
            )
        case Cancel():
            return pb.ServiceCancel(id=told.id)
        case Ping():
            return pb.ServicePing()
        case Drain():
            return pb.ServiceDrain()


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= _MORE:
        encoded.append(number & ~_MORE & 0xFF | _MORE)
        number >>= 7
    return bytes([*encoded, number])


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
