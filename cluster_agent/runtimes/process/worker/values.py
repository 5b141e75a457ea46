"""What the function takes and returns as values: bytes, text or JSON, from units and into units."""

from __future__ import annotations

import json
from typing import Any

from .failures import WrongError, line
from .frames import Message

_FORMS = {"bytes": "bytes", "text": "text in UTF-8", "json": "JSON"}
_first_json = json.JSONDecoder().raw_decode
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Values:
    """The ports that the function takes or returns as values."""

    def __init__(self, told: Message) -> None:
        inputs, outputs = told
        self.inputs: dict[str, tuple[str, str]] = {keyword(port): (port, form) for port, form in inputs.items()}
        self.outputs: dict[str, list[Any]] = outputs  # by port form, and whether it may be left out

    def take(self, arguments: dict[str, Any]) -> None:
        """Put the values into the arguments, where the bytes are, or the paths to them. WrongError, OSError."""
        for name, (port, form) in self.inputs.items():
            given = arguments[name]
            if type(given) is list:
                arguments[name] = [_value(port, form, one) for one in given]
            else:
                arguments[name] = _value(port, form, given)

    def made(self, result: Any) -> dict[str, bytes]:
        """The bytes of what the function has returned, without the outputs that it has left out. WrongError."""
        outputs = self.outputs
        if len(outputs) == 1:
            [port] = outputs
            result = {port: result}
        elif result is None:
            result = {}
        elif not isinstance(result, dict) or not result.keys() <= outputs.keys():
            what = f"a dictionary with {[*result]}" if isinstance(result, dict) else type(result).__name__
            expected = f"a dictionary by its outputs: {', '.join(outputs)}"
            raise WrongError("output", f"the function returned {what}, but expected is {expected}")
        made = {}
        for port, (form, optional) in outputs.items():
            value = result.get(port)
            if value is not None:
                made[port] = _written(port, form, value)
            elif not optional:
                raise WrongError("output", f"the function returned nothing for its output {port}")
        return made


def _value(port: str, form: str, given: Any) -> Any:
    """What the function is given for the bytes of a unit, or for the file that holds them. WrongError, OSError."""
    data: bytes = given if type(given) is bytes else given.read_bytes()
    try:
        if form == "json":
            return _from_json(data)
        return str(data, "utf-8") if form == "text" else data
    except (ValueError, RecursionError) as error:
        raise WrongError("exception", f"input {port} can't be read as {_FORMS[form]}: {error}") from None


def _from_json(data: bytes) -> Any:
    """What JSON says; `json.loads` alone takes three times as long for what is small. ValueError, RecursionError."""
    try:
        text = str(data, "utf-8").strip(" \t\n\r")
        value, end = _first_json(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return json.loads(data)  # says what is wrong with it, or it begins with a byte order mark, or is UTF-16


def _written(port: str, form: str, value: Any) -> bytes:
    """The bytes of a unit for what the function returned. WrongError."""
    try:
        if form == "json":
            return _to_json(value).encode()
        if form == "text":
            if isinstance(value, str):
                return value.encode()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
    except MemoryError:
        raise
    except Exception as error:  # also of what the value itself does when it is looked through
        raise WrongError("output", f"output {port} can't be written as {_FORMS[form]}: {line(error)}") from None
    expected = f"{'str' if form == 'text' else 'bytes'}, as its port says as: {form}"
    raise WrongError("output", f"output {port} was returned as {type(value).__name__}, but expected is {expected}")


def keyword(name: str) -> str:
    return name.replace("-", "_")
