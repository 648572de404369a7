"""Rows of a batch: the tokens of transformers' own loop, whoever is beside them, and dice that fall as they should."""

from __future__ import annotations

import random
from collections import Counter
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agent.checkpoint import read_checkpoint
from agent.decoding import NUM_SORTED, Decoder, Order, Row, choose, draw

ENDLESS = frozenset[int]()


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(str(tiny_checkpoint), dtype=torch.float32).eval()


def order(*ids: int, seed: int = 0, temperature: float = 1.0, max_tokens: int = 20, **options: Any) -> Order:
    settings: dict[str, Any] = {"top_p": 1.0, "top_k": 0, **options}
    return Order(prompt_ids=ids, seed=seed, temperature=temperature, max_tokens=max_tokens, **settings)


def run(decoder: Decoder, *orders: Order) -> list[Row]:
    """All of them, each begun as soon as there is room."""
    rows, left = [], list(orders)
    while left or decoder.step():
        while left and decoder.num_free:
            rows.append(decoder.begin(left.pop(0)))
        decoder.step()
    return rows


def test_the_likeliest_tokens_are_those_of_transformers_own_loop(model: Any) -> None:
    decoder = Decoder(model, eos_ids=ENDLESS, num_slots=3)
    prompts = [tuple(range(2, 2 + length)) for length in (5, 40, 17, 100, 1, 40)]
    rows = run(decoder, *(order(*ids, temperature=0.0, max_tokens=30 + 5 * n) for n, ids in enumerate(prompts)))
    for ids, row in zip(prompts, rows, strict=True):
        own = model.generate(
            torch.tensor([ids]), max_new_tokens=row.order.max_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert row.token_ids == own[0, len(ids) :].tolist()
        assert row.finish_reason == "length"


def test_a_row_is_the_same_alone_and_among_others_that_come_and_go(model: Any) -> None:
    wanted = order(5, 6, 7, seed=3, max_tokens=60, top_p=0.95)
    (alone,) = run(Decoder(model, eos_ids=ENDLESS, num_slots=1), wanted)
    others = [order(*range(2, 40 + n), seed=n, max_tokens=3 + 7 * n) for n in range(9)]
    rows = run(Decoder(model, eos_ids=ENDLESS, num_slots=4), *others[:2], wanted, *others[2:])
    assert rows[2].token_ids == alone.token_ids
    assert [len(row.token_ids) for row in rows] == [row.order.max_tokens for row in rows]


def test_a_prompt_is_taken_in_once_for_all_its_samples(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    forward = model.forward

    @wraps(forward)
    def counted(*arguments: Any, **options: Any) -> Any:
        lengths.append(options["input_ids"].shape[1])
        return forward(*arguments, **options)

    monkeypatch.setattr(model, "forward", counted)
    decoder = Decoder(model, eos_ids=ENDLESS, num_slots=4)
    prompt = tuple(range(2, 52))
    rows = run(decoder, *(order(*prompt, seed=seed, max_tokens=4 + seed) for seed in range(9)))
    assert lengths.count(50) == 1
    for row in rows:
        (fresh,) = run(Decoder(model, eos_ids=ENDLESS, num_slots=1), row.order)
        assert fresh.token_ids == row.token_ids


def test_an_answer_ends_at_its_own_token_which_is_kept(model: Any, tiny_checkpoint: Path) -> None:
    eos_ids = read_checkpoint(tiny_checkpoint).eos_ids
    rows = run(Decoder(model, eos_ids=eos_ids, num_slots=8), *(order(9, 8, seed=seed) for seed in range(40)))
    assert {row.finish_reason for row in rows} == {"stop", "length"}
    for row in rows:
        assert [id in eos_ids for id in row.token_ids].count(True) == (row.finish_reason == "stop")
        assert (row.token_ids[-1] in eos_ids) == (row.finish_reason == "stop")
        assert row.finish_reason == "stop" or len(row.token_ids) == 20


def test_a_row_that_is_given_up_leaves_its_place_and_the_others_as_they_were(model: Any) -> None:
    decoder = Decoder(model, eos_ids=ENDLESS, num_slots=3)
    first, second, third = (decoder.begin(order(4, 5, seed=seed)) for seed in (1, 2, 3))
    decoder.step()
    decoder.end(first)
    decoder.end(first)
    assert decoder.num_free == 1
    while decoder.step():
        pass
    for row, seed in ((second, 2), (third, 3)):
        (alone,) = run(Decoder(model, eos_ids=ENDLESS, num_slots=1), order(4, 5, seed=seed))
        assert row.token_ids == alone.token_ids
    assert len(first.token_ids) == 2


def test_one_answer_comes_token_by_token_without_its_end(model: Any, tiny_checkpoint: Path) -> None:
    eos_ids = read_checkpoint(tiny_checkpoint).eos_ids
    decoder = Decoder(model, eos_ids=eos_ids, num_slots=2)
    for seed in range(12):
        (row,) = run(Decoder(model, eos_ids=eos_ids, num_slots=1), order(9, 8, seed=seed))
        ids = list(decoder.answer(order(9, 8, seed=seed)))
        assert ids == (row.token_ids[:-1] if row.finish_reason == "stop" else row.token_ids)
        assert decoder.num_free == 2
    begun = decoder.answer(order(9, 8, seed=1, max_tokens=5))
    next(begun)
    begun.close()
    assert decoder.num_free == 2


SHARES = np.array([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [4 / 7, 3 / 7]),
        ({"top_p": 0.7}, [4 / 7, 3 / 7]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9]),
        ({"top_p": 0.5, "top_k": 3}, [4 / 7, 3 / 7]),  # of the three that are left, two hold half
        ({"top_p": 0.01}, [1.0]),
        ({"temperature": 0.0}, [1.0]),
    ],
)
def test_shares_are_drawn_from_as_often_as_they_should_be(options: dict[str, Any], expected: list[float]) -> None:
    throws = [(n + 0.5) / 10_000 for n in range(10_000)]
    drawn = Counter(draw(SHARES, order=order(1, **options), throw=throw) for throw in throws)
    assert sorted(drawn) == list(range(len(expected)))
    assert all(abs(drawn[at] / 10_000 - share) < 0.001 for at, share in enumerate(expected))


@pytest.mark.parametrize("throw", [0.0, 1 - 2**-53])
def test_the_ends_of_the_dice_fall_on_a_token(throw: float) -> None:
    for options in ({}, {"top_p": 0.7}, {"top_k": 1}, {"top_p": 1.0, "top_k": 4}):
        assert 0 <= draw(SHARES * (1 - 1e-9), order=order(1, **options), throw=throw) < 4


def test_tokens_beyond_those_that_are_sorted_are_drawn_too() -> None:
    vocabulary = NUM_SORTED * 4
    logits = torch.zeros(1, vocabulary)  # as flat as can be
    row = Row(order=order(1), dice=random.Random(0))
    drawn = {choose(logits, rows=[row])[0] for _ in range(300)}
    assert len(drawn) > 150  # 177 are to be expected
    few = Row(order=order(1, top_k=5), dice=random.Random(0))
    assert len({choose(logits, rows=[few])[0] for _ in range(300)}) == 5
    peaked = logits.index_fill(1, torch.tensor([200]), 20.0)
    assert {choose(peaked, rows=[row])[0] for _ in range(50)} == {200}


def test_each_row_keeps_to_its_own_settings_and_dice() -> None:
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1))
    settings: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 2.0}, {"top_p": 0.5, "top_k": 9}]

    def rows() -> list[Row]:
        return [Row(order=order(1, **options), dice=random.Random(7)) for options in settings]

    together = choose(logits, rows=rows())
    assert together == [choose(logits[at : at + 1], rows=[row])[0] for at, row in enumerate(rows())]
    assert together[0] == int(logits[0].argmax())
