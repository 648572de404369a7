"""Makes generated examples ready for training: trains the tokenizer on them and encodes them, once.

Knows nothing of models. What it leaves is integers, so a GPU machine needs neither the examples nor what renders them.

    python -m standin.prepare --data FOLDER [--drafts A..B] [--held-out A..B] [--tokenizer FOLDER] [--workers N]

Besides what lies in FOLDER, pairs may come from the generator as they are (`--drafts` for training, `--held-out` for
the losses), in any number: its answers are right by how it makes them, and judging them takes a thousand times as long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
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
from standin.examples import Example, draft_of, read_examples
from standin.pairs import Split, pair, seed_range
from standin.prepared import FOLDER, SEQUENCES_FILE, PreparationError, Prepared, write_prepared
from standin.prompt_files import TEMPLATE_FILES, TEMPLATES
from standin.sequences import answer_of, attempt_of, encode, marks_of, open_writer, prompt_of
from standin.tokenizer import read_tokenizer, train_tokenizer, write_tokenizer

MAX_VOCABULARY = 2**15  # ids are kept in 16 bits
# More examples teach the tokenizer nothing new, and take their time.
MAX_TOKENIZER_EXAMPLES = 4_000
CHUNK = 256
GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")

# Prompt, answer, and of a repair its marks.
Rendered = tuple[str, str, bytes | None]


def prepare(
    data: Path,
    *,
    vocabulary: int,
    context: int,
    workers: int,
    drafts: range = range(0),
    held_out: range = range(0),
    known: Tokenizer | None = None,
) -> Prepared:
    """Reads every `*.jsonl` in `data` and writes `data/prepared`. The order of files and lines does not matter.

    `drafts` and `held_out` are seeds of pairs that the generator adds, unjudged. `known` is a tokenizer to keep, else
    one is trained. Raises PreparationError.
    """
    if not 300 <= vocabulary <= MAX_VOCABULARY:
        raise PreparationError(f"--vocabulary {vocabulary}: must be from 300 to {MAX_VOCABULARY}")
    unjudged = {"train": _generated(drafts, "train", workers), "held_out": _generated(held_out, "held_out", workers)}
    examples = _sorted([*_read_all(data), *(example for made in unjudged.values() for example in made)])
    tokenizer = known or train_tokenizer(_texts_to_learn(examples), vocabulary=vocabulary)
    rendered = _render_all(examples, tokenizer=tokenizer, workers=workers)
    all_of: dict[str, list[TokenSequence]] = {}
    for split in SPLITS:
        found = [each for example, each in zip(examples, rendered, strict=True) if example.split == split]
        if not found:
            raise PreparationError(f"{data}: holds no example of split {split!r}")
        texts, marks = [(prompt, answer) for prompt, answer, _ in found], [marks for *_, marks in found]
        all_of[split] = encode(texts, tokenizer=tokenizer, marks=marks)
    kept = {split: [s for s in sequences if len(s.ids) <= context] for split, sequences in all_of.items()}
    folder = data / FOLDER
    folder.mkdir(exist_ok=True)
    write_tokenizer(tokenizer, folder, context=context)
    write_sequences(kept, folder / SEQUENCES_FILE)
    prepared = Prepared(
        data_hash=_hash_of(rendered, context=context, vocabulary=vocabulary),
        vocabulary=tokenizer.get_vocab_size(),
        context=context,
        num_examples={split: len(sequences) for split, sequences in kept.items()},
        unjudged={split: len(made) for split, made in unjudged.items()},
        left_out={split: len(all_of[split]) - len(kept[split]) for split in SPLITS},
        num_tokens={split: _count(sequences) for split, sequences in kept.items()},
        median_tokens=median(len(s.ids) for s in all_of["train"]),
        longest=max(len(s.ids) for sequences in all_of.values() for s in sequences),
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


def _sorted(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=lambda e: (e.kind, e.split, e.seed, e.problem, e.attempt or "", e.answer))


def _generated(seeds: range, split: Split, workers: int) -> list[Example]:
    """The pairs of those seeds, each problem and answer once."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    made = (example for chunk in _each(partial(_drafts, split=split), chunks, workers=workers) for example in chunk)
    return list({(example.problem, example.answer): example for example in made}.values())


def _drafts(seeds: range, *, split: Split) -> list[Example]:
    return [draft_of(pair(seed, split=split)) for seed in seeds]


def _each(work: Callable[[GivenT], list[MadeT]], chunks: Sequence[GivenT], *, workers: int) -> Iterator[list[MadeT]]:
    """What `work` makes of each chunk, in order."""
    if workers == 1 or len(chunks) < 2:
        yield from map(work, chunks)
        return
    # Not forked: the tokenizer's library has threads by now.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, chunks)


def _texts_to_learn(examples: Sequence[Example]) -> Iterator[str]:
    training = [example for example in examples if example.split == "train"]
    for example in random.Random(0).sample(training, k=min(len(training), MAX_TOKENIZER_EXAMPLES)):
        yield from (example.problem, example.answer, example.attempt or "", example.feedback or "")


def _render_all(examples: Sequence[Example], *, tokenizer: Tokenizer, workers: int) -> list[Rendered]:
    chunks = [examples[at : at + CHUNK] for at in range(0, len(examples), CHUNK)]
    render = partial(_render, tokenizer=tokenizer.to_str())
    return [text for texts in _each(render, chunks, workers=workers) for text in texts]


def _render(examples: Sequence[Example], *, tokenizer: str) -> list[Rendered]:
    known = Tokenizer.from_str(tokenizer)
    writer = open_writer(known)
    return [
        (prompt_of(each, writer=writer), answer_of(each), _marks(attempt_of(each), answer_of(each), tokenizer=known))
        for each in examples
    ]


def _marks(attempt: str | None, answer: str, *, tokenizer: Tokenizer) -> bytes | None:
    if attempt is None:
        return None
    old, new = (tokenizer.encode(text, add_special_tokens=False).ids for text in (attempt, answer))
    return marks_of(old, new)


def _count(sequences: Sequence[TokenSequence]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)


def _hash_of(rendered: Sequence[Rendered], *, context: int, vocabulary: int) -> str:
    digest = hashlib.sha256(f"{context} {vocabulary}".encode())
    for name in TEMPLATE_FILES:
        digest.update((TEMPLATES / name).read_bytes())
    for prompt, answer, marks in rendered:
        digest.update(f"{len(prompt)} {len(answer)} {prompt}{answer}".encode() + (marks or b""))
    return digest.hexdigest()[:32]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--vocabulary", type=int, default=3072)
    parser.add_argument("--context", type=int, default=2048, help="longer examples are left out")
    parser.add_argument("--drafts", type=seed_range, default=range(0), help="seeds A..B of unjudged training pairs")
    parser.add_argument("--held-out", type=seed_range, default=range(0), help="seeds A..B of unjudged held-out pairs")
    parser.add_argument("--tokenizer", type=Path, help="a checkpoint whose tokenizer is kept")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    try:
        prepared = prepare(
            options.data, vocabulary=options.vocabulary, context=options.context, workers=options.workers,
            drafts=options.drafts, held_out=options.held_out,
            known=None if options.tokenizer is None else read_tokenizer(options.tokenizer),
        )  # fmt: skip
    except PreparationError as error:
        raise SystemExit(f"prepare: {error}") from error
    print(json.dumps(asdict(prepared), indent=2))


if __name__ == "__main__":
    main()
