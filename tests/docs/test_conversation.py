"""The page on writing steps shows the conversation with a service as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from cluster_agent.runtimes.services.coding import Lines
from cluster_agent.runtimes.services.messages import Cancel, Drain, Failure, Hello, Log, Ping, Pong, Ready, Result, Task

PAGE = Path(__file__).parents[2] / "docs" / "writing-steps.md"
SAID, TOLD = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_what_a_service_says_there_is_understood_and_complete() -> None:
    heard = list(Lines().read(SAID.encode()))
    assert [type(one) for one in heard] == [Hello, Ready, Log, Result, Result, Pong]
    failed = heard[4]
    assert isinstance(failed, Result)
    assert failed.failure == Failure("no such column: delay", "…", "exception")
    assert set(json.loads(SAID.splitlines()[4])["result"]["failure"]) == set(Failure.__struct_fields__)


def test_what_it_is_told_there_has_the_fields_of_what_it_is_told() -> None:
    told: dict[str, object] = {}
    decoder, rest = json.JSONDecoder(), TOLD.strip()
    while rest:
        message, end = decoder.raw_decode(rest)
        told |= message
        rest = rest[end:].lstrip()
    kinds: dict[str, type[msgspec.Struct]] = {"task": Task, "cancel": Cancel, "ping": Ping, "drain": Drain}
    assert told.keys() == kinds.keys()
    for name, fields in told.items():
        assert isinstance(fields, dict)
        assert set(fields) == set(kinds[name].__struct_fields__)
