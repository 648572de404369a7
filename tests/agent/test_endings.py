"""What ends an answer of the model in this process: texts, and patterns that repeat themselves, as with vLLM."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.endings import Ending, before_stop, repeats
from agent.engine_config import RepetitionSection
from agent.sampler import Completion, SampleRequest
from agent.sampler_config import TransformersSamplerConfig
from agent.tokens import Tokens
from agent.transformers_sampler import TransformersSampler
from sandbox.types import Operator, Problem, Proposal

PROBLEM = Problem(id="p", source="class Model: pass\n", origin="test")


def drawn(folder: Path, *seeds: int, **options: Any) -> list[Completion]:
    config = TransformersSamplerConfig(
        kind="transformers", model=str(folder), device="cpu", threads=1, batch_size=4, **{"max_tokens": 60, **options}
    )

    def request(seed: int) -> SampleRequest:
        proposal = Proposal(id=f"d{seed}", operator=Operator.DRAFT, parents=())
        return SampleRequest(
            problem=PROBLEM, proposal=proposal, ordinal=0, prompt="import torch", parents=(), seed=seed
        )

    async def work() -> list[Completion]:
        sampler = TransformersSampler(config)
        try:
            return await asyncio.gather(*(sampler.sample(request(seed)) for seed in seeds))
        finally:
            await sampler.close()

    return asyncio.run(work())


def test_a_stop_text_ends_an_answer_early_and_does_not_stand_in_it(tiny_checkpoint: Path) -> None:
    answers = drawn(tiny_checkpoint, *range(12))
    # A word with something before and after it: most answers of random weights are odd bytes.
    found = [re.search(r"(?s)...([ -~]{3,})........", answer.text) for answer in answers]
    seed, stop = next((seed, match[1]) for seed, match in enumerate(found) if match is not None)
    first, others = answers[seed], answers[:seed] + answers[seed + 1 :]
    cut, *others_cut = drawn(tiny_checkpoint, seed, *(n for n in range(12) if n != seed), stop=["never said", stop])
    assert (cut.text, cut.finish_reason) == (first.text[: first.text.find(stop)], "stop")
    assert cut.token_ids is not None and first.token_ids is not None
    assert len(cut.token_ids) == cut.completion_tokens < first.completion_tokens, "no token was drawn after it"
    assert first.token_ids[: len(cut.token_ids)] == cut.token_ids
    for other, same in zip(others, others_cut, strict=True):
        if stop not in other.text:
            assert same == other, "an answer beside it is none the wiser"


def test_an_answer_that_goes_round_in_circles_is_ended_as_such(tiny_checkpoint: Path) -> None:
    rule = {"min_pattern_size": 1, "max_pattern_size": 40, "min_count": 3}
    # The likeliest token each time: a model of random weights soon goes round.
    (whole,) = drawn(tiny_checkpoint, 1, temperature=0.0, max_tokens=300)
    (cut,) = drawn(tiny_checkpoint, 1, temperature=0.0, max_tokens=300, repetition=rule)
    assert cut.finish_reason == "repetition" and cut.completion_tokens < whole.completion_tokens
    assert whole.token_ids is not None and cut.token_ids is not None
    assert whole.token_ids[: len(cut.token_ids)] == cut.token_ids
    rounds = [repeats(cut.token_ids[:n], rule=RepetitionSection(**rule)) for n in range(1, len(cut.token_ids) + 1)]
    assert rounds.index(True) == len(rounds) - 1, "at once, and not before"


@given(st.lists(st.integers(0, 2), max_size=24), st.integers(1, 3), st.integers(0, 3), st.integers(2, 4))
def test_what_repeats_is_the_same_pattern_a_number_of_times(ids: list[int], low: int, more: int, count: int) -> None:
    rule = RepetitionSection(min_pattern_size=low, max_pattern_size=low + more, min_count=count)
    patterns = [ids[-size:] * count for size in range(low, low + more + 1) if size * count <= len(ids)]
    assert repeats(ids, rule=rule) == any(ids[-len(pattern) :] == pattern for pattern in patterns)


def test_a_stop_text_is_found_across_tokens_and_whole_characters(tiny_checkpoint: Path) -> None:
    tokens = Tokens(tiny_checkpoint, bos="none")
    text = "def f(x):\n    return 'ümläut → 🙂'\nEND"

    def ended_after(ids: Sequence[int], stop: str) -> int:
        ending = Ending(tokens.piecewise(), stop=[stop], repetition=None)
        return next(n for n in range(1, len(ids) + 1) if ending.reason(ids[:n]) == "stop")

    ids = tokens.encode(text)
    for stop in ("→ 🙂", "x", "\nEND"):
        num_tokens = ended_after(ids, stop)
        assert stop in tokens.decode(ids[:num_tokens]) and stop not in tokens.decode(ids[: num_tokens - 1])


@pytest.mark.parametrize(
    ("stop", "left"), [([], None), (["z"], None), (["c", "b"], "a"), (["abc"], ""), (["bcd", "c"], "ab")]
)
def test_the_first_stop_text_bounds_an_answer(stop: list[str], left: str | None) -> None:
    assert before_stop("abc", stop) == left
