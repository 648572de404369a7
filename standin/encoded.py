"""A chunk of examples, each under one or more namings, as token sequences: what a process of `prepare.py` does.

Knows nothing of files or of other chunks.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from standin.corpus import TokenSequence
from standin.examples import Example
from standin.renaming import NotRenamed, Renamable
from standin.sequences import answer_of, attempt_of, encode, marks_of, open_writer, prompt_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An example as it is, and the numbers of the namings that it is to have besides."""

    example: Example
    namings: range


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One example under one naming; `renamed` if it is not the one under which it was judged."""

    split: str
    renamed: bool
    sequence: TokenSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """`not_renamed` counts namings that could not be had, by why; `digest` is of all that was rendered."""

    encoded: Sequence[Encoded]
    not_renamed: Counter[NotRenamed]
    digest: bytes


def begin_process() -> None:
    """There is a process for each core already."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def encoded_chunk(orders: Sequence[Order], *, tokenizer: str) -> EncodedChunk:
    """All orders, each with its namings after it. `tokenizer` is its JSON."""
    known = Tokenizer.from_str(tokenizer)
    named, not_renamed = _named(orders)
    writer = open_writer(known)
    texts = [(prompt_of(example, writer=writer), answer_of(example)) for example, _ in named]
    attempts = [attempt_of(example) for example, _ in named]
    sequences = encode(texts, tokenizer=known, marks=_marks(attempts, texts, tokenizer=known))
    digest = hashlib.sha256()
    for (prompt, answer), sequence in zip(texts, sequences, strict=True):
        digest.update(f"{len(prompt)} {len(answer)} {prompt}{answer}".encode() + sequence.marks)
    encoded = [
        Encoded(split=example.split, renamed=renamed, sequence=sequence)
        for (example, renamed), sequence in zip(named, sequences, strict=True)
    ]
    return EncodedChunk(encoded=encoded, not_renamed=not_renamed, digest=digest.digest())


def _named(orders: Sequence[Order]) -> tuple[list[tuple[Example, bool]], Counter[NotRenamed]]:
    """Each example, and whether it is renamed."""
    found: list[tuple[Example, bool]] = []
    not_renamed = Counter[NotRenamed]()
    for order in orders:
        found.append((order.example, False))
        if not order.namings:
            continue
        renamable = Renamable(order.example)
        for number in order.namings:
            made = renamable.renamed(number)
            if isinstance(made, NotRenamed):
                not_renamed[made] += 1
            else:
                found.append((made, True))
    return found, not_renamed


def _marks(
    attempts: Sequence[str | None], texts: Sequence[tuple[str, str]], *, tokenizer: Tokenizer
) -> list[bytes | None]:
    pairs = [(attempt, answer) for attempt, (_, answer) in zip(attempts, texts, strict=True) if attempt is not None]
    whole = tokenizer.encode_batch([text for pair in pairs for text in pair], add_special_tokens=False)
    marks = (marks_of(old.ids, new.ids) for old, new in zip(whole[::2], whole[1::2], strict=True))
    return [None if attempt is None else next(marks) for attempt in attempts]
