"""The tokenizer: what it keeps whole, what it takes apart, and that it is the same from the same text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from standin.tokenizer import BEGIN, END, MARKERS, PAD, id_of, read_tokenizer, train_tokenizer, write_tokenizer
from tests.standin.tiny_pairs import tiny_pair

TEXTS = [tiny_pair(seed, split="train").answer for seed in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocabulary=400)


def pieces(text: str, *, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([token], skip_special_tokens=False) for token in tokenizer.encode(text).ids]


@pytest.mark.parametrize(
    "text", [*TEXTS[:3], "", "\t\r\n\n  x\n", "é — 漢字 \x00 \N{PARTY POPPER}", "a  b   ", "12 345.50e-07"]
)
def test_any_text_comes_back_as_it_was(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_number_is_its_digits(tokenizer: Tokenizer) -> None:
    assert pieces("x = 1024.75", tokenizer=tokenizer)[-7:] == ["1", "0", "2", "4", ".", "7", "5"]


def test_a_line_end_with_its_indentation_is_one_token(tokenizer: Tokenizer) -> None:
    assert pieces("\n        y", tokenizer=tokenizer)[0] == "\n        "
    assert pieces("\n    x", tokenizer=tokenizer)[0] == "\n    "


def test_special_tokens_are_found_in_text_and_are_one_token_each(tokenizer: Tokenizer) -> None:
    for token in (BEGIN, END, PAD, *MARKERS):
        assert tokenizer.encode(token).ids == [id_of(token, tokenizer=tokenizer)]
    with pytest.raises(KeyError):
        id_of("<|nothing|>", tokenizer=tokenizer)


def test_encoding_adds_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("x", add_special_tokens=True).ids == tokenizer.encode("x", add_special_tokens=False).ids


def test_the_same_text_gives_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(TEXTS, vocabulary=400).to_str() == tokenizer.to_str()


def test_what_is_written_is_read_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_tokenizer(tokenizer, tmp_path, context=64)
    assert read_tokenizer(tmp_path).encode(TEXTS[0]).ids == tokenizer.encode(TEXTS[0]).ids
