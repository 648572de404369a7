"""What an interpret child may say: anything that the interpreter does not send is a forged result."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox import wire
from sandbox.interpreted import read_interpreted
from sandbox.plan import Plan, decode
from sandbox.tracer import ProblemFailed, Traced
from sandbox.types import Status
from sandbox.zygote import ChildOutcome

CASE = SimpleNamespace(expected=[], seed=1, kind="random", precision="ieee")
FINE: dict[str, Any] = {
    "status": None,
    "weights": "none",
    "stray_reads": 0,
    "outputs": [[]],
    "followed": [],
    "writes": [[1]],
}


@pytest.fixture(scope="module")
def plan(trace: Callable[[str, str], Traced], sources: dict[str, str]) -> Plan:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None
    return decode(traced.plan)


def outcome(message: bytes) -> ChildOutcome:
    return ChildOutcome(
        result=message, exit_code=0, signal=None, timed_out=False, cpu_seconds=0.0, max_rss_bytes=0, wall_seconds=0.0,
        out_of_memory=False,
    )  # fmt: skip


def test_what_the_interpreter_sends_is_read(plan: Plan) -> None:
    status, failure, correctness, writes = read_interpreted(
        outcome(wire.pack({"cases": [FINE]})), [CASE], plan, following=lambda: CASE
    )
    assert status is None and failure is None and correctness is not None and writes == [[1]]


@pytest.mark.parametrize(
    "body",
    [
        {"cases": [{"status": "passed", "error_class": "E", "message": "m"}]},
        {"cases": [{"status": "timeout", "error_class": "E", "message": "m"}]},
        {"cases": [{"status": "rejected", "error_class": ["E"], "message": "m"}]},
        {"cases": [{"status": "rejected", "error_class": "E", "message": 5}]},
        {"cases": [{**FINE, "writes": []}]},
        {"cases": [{**FINE, "writes": [[1], [1]]}]},
        {"cases": [{**FINE, "writes": [[10**6]]}]},
        {"cases": [{**FINE, "writes": [[-1]]}]},
        {"cases": [{**FINE, "writes": [5]}]},
        {"cases": [{**FINE, "writes": [[1.5]]}]},
        {"cases": [{**FINE, "outputs": [[["float32", [1]]]]}]},
        {"cases": [{**FINE, "outputs": 5}]},
        {"cases": [{**FINE, "followed": 5}]},
        {"cases": [{**FINE, "followed": [["float32", [1]]]}]},
        {"cases": [FINE, FINE]},
        {"cases": []},
        {"cases": 5},
        {"cases": "a"},
        [],
        5,
        None,
    ],
)
def test_anything_else_is_a_forged_result(plan: Plan, body: Any) -> None:
    status, failure, *_ = read_interpreted(outcome(wire.pack(body)), [CASE], plan, following=lambda: CASE)
    assert status is Status.REJECTED and failure is not None and failure.error_class == "ForgedResult"


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999"])
def test_infinite_figures_are_a_forged_result(plan: Plan, number: str) -> None:
    body = {"cases": [{**FINE, "stray_reads": "NUMBER", "outputs": [[["float32", [1]]]]}]}
    header = json.dumps({"body": body, "blobs": [4]}).replace('"NUMBER"', number).encode()
    message = b"KLW1" + len(header).to_bytes(8, "big") + header + bytes(4)
    status, failure, *_ = read_interpreted(outcome(message), [CASE], plan, following=lambda: CASE)
    assert status is Status.REJECTED and failure is not None and failure.error_class == "ForgedResult"


def test_a_reference_that_fails_in_its_next_call_is_not_the_candidates_fault(plan: Plan) -> None:
    def following() -> Any:
        raise ProblemFailed("a second call of the reference: it fails")

    message = wire.pack({"cases": [{**FINE, "followed": [["float32", [1]]]}]}, [bytes(4)])
    with pytest.raises(ProblemFailed, match="second call"):
        read_interpreted(outcome(message), [CASE], plan, following=following)


def test_words_can_be_encoded(plan: Plan) -> None:
    body = {"cases": [{"status": "unverified", "error_class": "E\ud800", "message": "\udfff"}]}
    status, failure, *_ = read_interpreted(outcome(wire.pack(body)), [CASE], plan, following=lambda: CASE)
    assert status is Status.UNVERIFIED and failure is not None
    assert (failure.error_class, failure.message) == ("E?", "?")
