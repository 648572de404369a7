"""Makes generated examples ready for training: trains the tokenizer on them and encodes them, once.

Knows nothing of models. What it leaves is integers, so a GPU machine needs neither the examples nor what renders them.

    python -m standin.prepare --data FOLDER [--drafts A..B] [--held-out A..B] [--namings N]
        [--tokenizer FOLDER] [--workers N]

Besides what lies in FOLDER, pairs may come from the generator as they are (`--drafts` for training, `--held-out` for
the losses), in any number: its answers are right by how it makes them, and judging them takes a thousand times as long.
What lies in FOLDER for training may come `--namings` times, all but the first under other names (`renaming.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypeVar

from tokenizers import Tokenizer

from standin.corpus import SPLITS, TokenSequence, write_sequences
from standin.encoded import EncodedChunk, Order, begin_process, encoded_chunk
from standin.examples import Example, draft_of, read_examples
from standin.pairs import Split, pair, seed_range
from standin.prepared import FOLDER, SEQUENCES_FILE, PreparationError, Prepared, write_prepared
from standin.prompt_files import TEMPLATE_FILES, TEMPLATES
from standin.renaming import NotRenamed
from standin.tokenizer import read_tokenizer, train_tokenizer, write_tokenizer

MAX_VOCABULARY = 2**15  # ids are kept in 16 bits
# More examples teach the tokenizer nothing new, and take their time.
MAX_TOKENIZER_EXAMPLES = 4_000
CHUNK = 128  # examples that a process is given at a time
GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")


def prepare(
    data: Path,
    *,
    vocabulary: int,
    context: int,
    workers: int,
    drafts: range = range(0),
    held_out: range = range(0),
    namings: int = 1,
    known: Tokenizer | None = None,
) -> Prepared:
    """Reads every `*.jsonl` in `data` and writes `data/prepared`. The order of files and lines does not matter.

    `drafts` and `held_out` are seeds of pairs that the generator adds, unjudged. What was judged, for training, comes
    `namings` times. `known` is a tokenizer to keep, else one is trained. Raises PreparationError.
    """
    if not 300 <= vocabulary <= MAX_VOCABULARY:
        raise PreparationError(f"--vocabulary {vocabulary}: must be from 300 to {MAX_VOCABULARY}")
    if namings < 1:
        raise PreparationError(f"--namings {namings}: must be at least 1")
    unjudged = {"train": _generated(drafts, "train", workers), "held_out": _generated(held_out, "held_out", workers)}
    orders = _ordered(_read_all(data), [example for made in unjudged.values() for example in made], namings=namings)
    for split in SPLITS:
        if all(order.example.split != split for order in orders):
            raise PreparationError(f"{data}: holds no example of split {split!r}")
    tokenizer = known or train_tokenizer(_texts_to_learn(orders), vocabulary=vocabulary)
    chunks = _encode_all(orders, tokenizer=tokenizer, workers=workers)
    encoded = [each for chunk in chunks for each in chunk.encoded]
    fitting = [each for each in encoded if len(each.sequence.ids) <= context]
    kept = {split: [each.sequence for each in fitting if each.split == split] for split in SPLITS}
    folder = data / FOLDER
    folder.mkdir(exist_ok=True)
    write_tokenizer(tokenizer, folder, context=context)
    write_sequences(kept, folder / SEQUENCES_FILE)
    not_renamed = sum((chunk.not_renamed for chunk in chunks), Counter[NotRenamed]())
    prepared = Prepared(
        data_hash=_hash_of(chunks, context=context, vocabulary=vocabulary),
        vocabulary=tokenizer.get_vocab_size(),
        context=context,
        num_examples={split: len(sequences) for split, sequences in kept.items()},
        unjudged={split: len(made) for split, made in unjudged.items()},
        namings=namings,
        renamed={split: sum(each.renamed for each in fitting if each.split == split) for split in SPLITS},
        not_renamed={why.value: count for why, count in sorted(not_renamed.items())},
        left_out={split: sum(each.split == split for each in encoded) - len(kept[split]) for split in SPLITS},
        num_tokens={split: _count(sequences) for split, sequences in kept.items()},
        median_tokens=median(len(each.sequence.ids) for each in encoded if each.split == "train"),
        longest=max(len(each.sequence.ids) for each in encoded),
    )
    write_prepared(prepared, data)
    return prepared


def _read_all(data: Path) -> list[Example]:
    examples: list[Example] = []
    for path in sorted(data.glob("*.jsonl")):
        try:
            examples += read_examples(path)
        except (OSError, ValueError, TypeError) as error:
            raise PreparationError(f"{path}: {error}") from error
    return examples


def _ordered(judged: Sequence[Example], unjudged: Sequence[Example], *, namings: int) -> list[Order]:
    """All of them, sorted. Copies of a judged example are renamed each in its own way."""
    copies, orders, further = Counter[Example](), list[Order](), namings - 1
    for example in judged:
        first = 1 + further * copies[example]
        copies[example] += 1
        orders.append(
            Order(example=example, namings=range(first, first + further) if example.split == "train" else range(0))
        )
    orders += [Order(example=example, namings=range(0)) for example in unjudged]
    return sorted(orders, key=_place)


def _place(order: Order) -> tuple[str | int, ...]:
    example = order.example
    return (
        example.kind, example.split, example.seed, example.problem, example.attempt or "", example.answer,
        order.namings.start,
    )  # fmt: skip


def _generated(seeds: range, split: Split, workers: int) -> list[Example]:
    """The pairs of those seeds, each problem and answer once."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    made = (example for chunk in _each(partial(_drafts, split=split), chunks, workers=workers) for example in chunk)
    return list({(example.problem, example.answer): example for example in made}.values())


def _drafts(seeds: range, *, split: Split) -> list[Example]:
    return [draft_of(pair(seed, split=split)) for seed in seeds]


def _each(work: Callable[[GivenT], MadeT], chunks: Sequence[GivenT], *, workers: int) -> Iterator[MadeT]:
    """What `work` makes of each chunk, in order."""
    if workers == 1 or len(chunks) < 2:
        yield from map(work, chunks)
        return
    # Not forked: the tokenizer's library has threads by now.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin_process) as pool:
        yield from pool.map(work, chunks)


def _texts_to_learn(orders: Sequence[Order]) -> Iterator[str]:
    training = [order.example for order in orders if order.example.split == "train"]
    for example in random.Random(0).sample(training, k=min(len(training), MAX_TOKENIZER_EXAMPLES)):
        yield from (example.problem, example.answer, example.attempt or "", example.feedback or "")


def _encode_all(orders: Sequence[Order], *, tokenizer: Tokenizer, workers: int) -> list[EncodedChunk]:
    chunks = [orders[at : at + CHUNK] for at in range(0, len(orders), CHUNK)]
    return list(_each(partial(encoded_chunk, tokenizer=tokenizer.to_str()), chunks, workers=workers))


def _count(sequences: Sequence[TokenSequence]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)


def _hash_of(chunks: Sequence[EncodedChunk], *, context: int, vocabulary: int) -> str:
    digest = hashlib.sha256(f"{context} {vocabulary}".encode())
    for name in TEMPLATE_FILES:
        digest.update((TEMPLATES / name).read_bytes())
    for chunk in chunks:
        digest.update(chunk.digest)
    return digest.hexdigest()[:32]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--vocabulary", type=int, default=3072)
    parser.add_argument("--context", type=int, default=2048, help="longer examples are left out")
    parser.add_argument("--drafts", type=seed_range, default=range(0), help="seeds A..B of unjudged training pairs")
    parser.add_argument("--held-out", type=seed_range, default=range(0), help="seeds A..B of unjudged held-out pairs")
    parser.add_argument("--namings", type=int, default=1, help="how often what was judged comes, each time named anew")
    parser.add_argument("--tokenizer", type=Path, help="a checkpoint whose tokenizer is kept")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    try:
        prepared = prepare(
            options.data, vocabulary=options.vocabulary, context=options.context, workers=options.workers,
            drafts=options.drafts, held_out=options.held_out, namings=options.namings,
            known=None if options.tokenizer is None else read_tokenizer(options.tokenizer),
        )  # fmt: skip
    except PreparationError as error:
        raise SystemExit(f"prepare: {error}") from error
    print(json.dumps(asdict(prepared), indent=2))


if __name__ == "__main__":
    main()
