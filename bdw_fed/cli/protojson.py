"""Messages as protobuf's canonical JSON, without protobuf's own module for it.

That module imports the description of all descriptors, which takes as long as all else that a quick verb does. What
is here covers what our contract uses: no Any, no well-known types, no extensions. Tests hold it against protobuf's.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

_WIDE = frozenset(
    [
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT64,
    ]
)
_FLOATS = frozenset([FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT])
_BYTES = FieldDescriptor.TYPE_BYTES


def to_values(message: Message) -> dict[str, Any]:
    """The message as plain values, with all its fields but messages that are not set."""
    values: dict[str, Any] = {}
    field: Any
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_map(field):
            of = field.message_type.fields_by_name["value"]
            values[field.json_name] = {str(key): _written(of, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            values[field.json_name] = [_written(field, item) for item in value]
        elif (field.containing_oneof is None and field.message_type is None) or message.HasField(field.name):
            values[field.json_name] = _written(field, value)
    return values


def from_values(values: Mapping[str, Any], message: M) -> M:
    """Fill `message` from what `to_values` (or protobuf itself) has made; unknown fields are passed over."""
    field: Any
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.json_name, values.get(field.name))
        if value is None:
            continue
        target = getattr(message, field.name)
        if _is_map(field):
            of = field.message_type.fields_by_name["value"]
            for key, item in value.items():
                if of.message_type is not None:
                    from_values(item, target[key])
                else:
                    target[key] = _read(of, item)
        elif field.is_repeated:
            for item in value:
                if field.message_type is not None:
                    from_values(item, target.add())
                else:
                    target.append(_read(field, item))
        elif field.message_type is not None:
            target.SetInParent()
            from_values(value, target)
        else:
            setattr(message, field.name, _read(field, value))
    return message


def _is_map(field: Any) -> bool:
    """Whether a field is a map: told by its entry's generated name, since the option would cost the import."""
    entry = field.message_type
    return bool(
        entry is not None
        and field.is_repeated
        and entry.containing_type is field.containing_type
        and entry.name == f"{field.camelcase_name[0].upper()}{field.camelcase_name[1:]}Entry"
        and [part.name for part in entry.fields] == ["key", "value"]
    )


def _written(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return to_values(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if field.type == _BYTES:
        return base64.b64encode(value).decode()
    if field.cpp_type in _WIDE:
        return str(value)
    if field.cpp_type in _FLOATS and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _read(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_name[value].number if isinstance(value, str) else value
    if field.type == _BYTES:
        return base64.b64decode(value)
    if field.cpp_type in _FLOATS:
        return float(value)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_STRING):
        return value
    return int(value)
