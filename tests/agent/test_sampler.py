"""The recorded sampler: which line answers which request, and what it says of an unusable file."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from agent.sampler import (
    Completion,
    RecordedSampler,
    RecordingError,
    SampleRequest,
    SamplerError,
    SamplerExhausted,
    SamplerRefused,
    estimate_tokens,
)
from sandbox.types import Candidate, Operator, Problem, Proposal

SOURCES = {name: f"class ModelNew:\n    name = {name!r}\n" for name in ("a", "b", "c", "d", "e", "f", "x")}


def answer(name: str) -> str:
    return f"Here it is:\n```python\n{SOURCES[name]}```\n"


def recorded(name: str, *, operator: str = "draft", problem: str = "relu", **more: Any) -> dict[str, Any]:
    return {"id": name, "problem": problem, "operator": operator, "completion": answer(name), **more}


def sampler_of(tmp_path: Path, *lines: dict[str, Any]) -> RecordedSampler:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return RecordedSampler(path)


def request(
    operator: Operator, *, ordinal: int = 0, repeat: int = 0, parent: str | None = None, problem: str = "relu"
) -> SampleRequest:
    parents: tuple[Candidate, ...] = ()
    if parent is not None:
        parents = (Candidate(problem_id=problem, source=SOURCES[parent], operator=Operator.DRAFT),)
    return SampleRequest(
        problem=Problem(id=problem, source="class Model: ...", origin="test"),
        proposal=Proposal(id=f"{operator}-{ordinal}-{repeat}", operator=operator, parents=tuple(p.id for p in parents)),
        ordinal=ordinal,
        prompt="p" * 32,
        parents=parents,
        seed=7,
        repeat=repeat,
    )


def test_requests_get_their_lines_in_any_order_of_calls(tmp_path: Path) -> None:
    sampler = sampler_of(
        tmp_path,
        recorded("a"),
        recorded("b"),
        recorded("c", operator="repair", parent="a"),
        recorded("d", operator="repair", parent="b"),
        recorded("e", operator="repair", parent="a"),
        recorded("f", operator="improve", parent="a"),
    )
    wanted = [
        (request(Operator.DRAFT, ordinal=0), "a"),
        (request(Operator.DRAFT, ordinal=1), "b"),
        (request(Operator.REPAIR, parent="a"), "c"),
        (request(Operator.REPAIR, parent="b", ordinal=1), "d"),
        (request(Operator.REPAIR, parent="a", ordinal=2, repeat=1), "e"),
        (request(Operator.IMPROVE, parent="a"), "f"),
    ]
    for order in itertools.islice(itertools.permutations(wanted), 0, 720, 90):
        for asked, name in order:
            assert asyncio.run(sampler.sample(asked)).text == answer(name)


def test_a_repair_of_a_repair_and_of_a_twin_draft_are_found(tmp_path: Path) -> None:
    twin = {**recorded("b"), "completion": answer("a")}
    sampler = sampler_of(
        tmp_path,
        recorded("a"),
        twin,
        recorded("c", operator="repair", parent="b"),
        recorded("d", operator="repair", parent="c"),
    )
    assert asyncio.run(sampler.sample(request(Operator.REPAIR, parent="a"))).text == answer("c")
    assert asyncio.run(sampler.sample(request(Operator.REPAIR, parent="c", ordinal=1))).text == answer("d")


def test_counts_come_from_the_file_or_are_estimated_and_say_so(tmp_path: Path) -> None:
    counted = recorded("a", prompt_tokens=11, completion_tokens=13, finish_reason="stop")
    sampler = sampler_of(tmp_path, counted, recorded("b"))
    first = asyncio.run(sampler.sample(request(Operator.DRAFT)))
    second = asyncio.run(sampler.sample(request(Operator.DRAFT, ordinal=1)))
    assert first == Completion(
        text=answer("a"), finish_reason="stop", prompt_tokens=11, completion_tokens=13, sampler="recorded"
    )
    assert (second.prompt_tokens, second.completion_tokens) == (10, estimate_tokens(answer("b")))
    assert second.tokens_estimated


@pytest.mark.parametrize(
    "asked",
    [
        request(Operator.DRAFT, ordinal=1),
        request(Operator.DRAFT, problem="softmax"),
        request(Operator.REPAIR, parent="b"),
        request(Operator.REPAIR, parent="a", repeat=1),
        request(Operator.IMPROVE, parent="a"),
    ],
)
def test_what_is_not_recorded_is_exhausted(tmp_path: Path, asked: SampleRequest) -> None:
    sampler = sampler_of(tmp_path, recorded("a"), recorded("c", operator="repair", parent="a"))
    with pytest.raises(SamplerExhausted, match="asked for"):
        asyncio.run(sampler.sample(asked))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ({"id": "x"}, "problem: Field required"),
        ({**recorded("x"), "temprature": 1}, "temprature: .*known keys: id, problem, operator"),
        ({**recorded("x"), "operator": "drafts"}, "operator: .*'draft'"),
        ({**recorded("x"), "completion": None}, "completion: "),
        ({**recorded("x"), "prompt_tokens": -1}, "prompt_tokens: "),
        ({**recorded("x"), "prompt_tokens": True}, "prompt_tokens: "),
        (recorded("a"), "id: 'a' stands on an earlier line"),
        (recorded("x", parent="a"), "parent: a draft has none"),
        (recorded("x", operator="repair"), "parent: a repair needs"),
        (recorded("x", operator="repair", parent="y"), "parent: 'y' is not"),
        (recorded("x", operator="repair", parent="a", problem="other"), "parent: 'a' is about problem 'relu'"),
        (recorded("x", operator="tune", parent="a"), "operator: tune asks no model"),
    ],
)
def test_a_faulty_line_is_named_in_one_line(tmp_path: Path, line: Any, says: str) -> None:
    path = tmp_path / "answers.jsonl"
    raw = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(recorded("a")) + "\n\n" + raw + "\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=says) as caught:
        RecordedSampler(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere\.jsonl: cannot be read"):
        RecordedSampler(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RecordingError, match="holds no recorded completion"):
        RecordedSampler(tmp_path / "empty.jsonl")


def test_damaged_text_never_raises_anything_else(tmp_path: Path) -> None:
    random_bits = random.Random(3)
    path = tmp_path / "answers.jsonl"
    whole = (json.dumps(recorded("a")) + "\n" + json.dumps(recorded("b"))).encode()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random_bits.randrange(len(damaged))] = random_bits.randrange(256)
        path.write_bytes(damaged)
        try:
            RecordedSampler(path)
        except RecordingError as error:
            assert "\n" not in str(error)


def test_errors_pickle() -> None:
    for error in (SamplerError("x"), SamplerRefused("x"), SamplerExhausted("x"), RecordingError("x")):
        assert str(pickle.loads(pickle.dumps(error))) == "x"
