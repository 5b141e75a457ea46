"""Our canonical JSON is protobuf's, both ways, for the messages that the command line shows."""

from __future__ import annotations

import json

import pytest
from fake_hub import a_plan, a_run
from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.cli.protojson import from_values, to_values
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model

EXAMPLES: list[Message] = [
    a_run(),
    a_run(model.RUN_STATE_FAILED),
    a_plan(),
    model.Run(),
    pb.SubmitResponse(run=a_run()),
    pb.Object(kind="Step", digest=b"\x00\xff", revision=1 << 60, applied_at=float("inf")),
    model.Fragment(epochs={"b": 1, "a": 2}, steps=[model.Step(execution=model.Execution(bundle=b"x"))]),
    model.Step(execution=model.Execution(command=model.Execution.Command(argv=["awk"], env={"A": "b"}))),
    model.Run(state=99),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_it_is_what_protobuf_writes_and_is_read_back(message: Message) -> None:
    values = to_values(message)
    assert values == MessageToDict(message, always_print_fields_with_no_presence=True)
    assert from_values(values, type(message)()) == message
    assert from_values(MessageToDict(message), type(message)()) == message


@given(
    st.builds(
        model.StepProgress,
        step=st.text(max_size=5),
        waiting=st.integers(0, 2**64 - 1),
        closed=st.booleans(),
        busy_seconds=st.floats(allow_nan=False),
        workers=st.integers(0, 2**32 - 1),
    )
)
def test_every_number_survives(message: model.StepProgress) -> None:
    text = json.dumps(to_values(message))
    assert Parse(text, model.StepProgress()) == message
    assert from_values(json.loads(text), model.StepProgress()) == message


def test_fields_that_we_do_not_know_are_passed_over() -> None:
    assert from_values({"name": "a", "fromTheFuture": {"x": 1}}, model.Run()).name == "a"
