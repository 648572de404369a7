"""Makes generated examples ready for training: trains the tokenizer on them and encodes them, once.

Knows nothing of models. What it leaves is integers, so a GPU machine needs neither the examples nor what renders them.

    python -m standin.prepare --data FOLDER [--vocabulary N] [--context N] [--workers N]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer

from standin.corpus import SPLITS, TokenSequence, write_sequences
from standin.examples import Example, read_examples
from standin.prepared import FOLDER, SEQUENCES_FILE, PreparationError, Prepared, write_prepared
from standin.prompt_files import TEMPLATE_FILES, TEMPLATES
from standin.sequences import answer_of, encode, open_writer, prompt_of
from standin.tokenizer import train_tokenizer, write_tokenizer

MAX_VOCABULARY = 2**15  # ids are kept in 16 bits
# More examples teach the tokenizer nothing new, and take their time.
MAX_TOKENIZER_EXAMPLES = 4_000
CHUNK = 256


def prepare(data: Path, *, vocabulary: int, context: int, workers: int) -> Prepared:
    """Reads every `*.jsonl` in `data` and writes `data/prepared`. The order of files and lines does not matter.

    Raises PreparationError.
    """
    if not 300 <= vocabulary <= MAX_VOCABULARY:
        raise PreparationError(f"--vocabulary {vocabulary}: must be from 300 to {MAX_VOCABULARY}")
    examples = _read_all(data)
    tokenizer = train_tokenizer(_texts_to_learn(examples), vocabulary=vocabulary)
    texts = _render_all(examples, tokenizer=tokenizer, workers=workers)
    by_split = {split: [t for e, t in zip(examples, texts, strict=True) if e.split == split] for split in SPLITS}
    for split, found in by_split.items():
        if not found:
            raise PreparationError(f"{data}: holds no example of split {split!r}")
    all_of = {split: encode(found, tokenizer=tokenizer) for split, found in by_split.items()}
    kept = {split: [s for s in sequences if len(s.ids) <= context] for split, sequences in all_of.items()}
    folder = data / FOLDER
    folder.mkdir(exist_ok=True)
    write_tokenizer(tokenizer, folder, context=context)
    write_sequences(kept, folder / SEQUENCES_FILE)
    prepared = Prepared(
        data_hash=_hash_of(texts, context=context, vocabulary=vocabulary),
        vocabulary=tokenizer.get_vocab_size(),
        context=context,
        num_examples={split: len(sequences) for split, sequences in kept.items()},
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
    return sorted(examples, key=lambda e: (e.kind, e.split, e.seed, e.problem, e.attempt or "", e.answer))


def _texts_to_learn(examples: Sequence[Example]) -> Iterator[str]:
    training = [example for example in examples if example.split == "train"]
    for example in random.Random(0).sample(training, k=min(len(training), MAX_TOKENIZER_EXAMPLES)):
        yield from (example.problem, example.answer, example.attempt or "", example.feedback or "")


def _render_all(examples: Sequence[Example], *, tokenizer: Tokenizer, workers: int) -> list[tuple[str, str]]:
    chunks = [examples[at : at + CHUNK] for at in range(0, len(examples), CHUNK)]
    render = partial(_render, tokenizer=tokenizer.to_str())
    if workers == 1:
        return [text for chunk in chunks for text in render(chunk)]
    # Not forked: the tokenizer's library has threads by now.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [text for texts in pool.map(render, chunks) for text in texts]


def _render(examples: Sequence[Example], *, tokenizer: str) -> list[tuple[str, str]]:
    writer = open_writer(Tokenizer.from_str(tokenizer))
    return [(prompt_of(example, writer=writer), answer_of(example)) for example in examples]


def _count(sequences: Sequence[TokenSequence]) -> int:
    return sum(len(sequence.ids) for sequence in sequences)


def _hash_of(texts: Sequence[tuple[str, str]], *, context: int, vocabulary: int) -> str:
    digest = hashlib.sha256(f"{context} {vocabulary}".encode())
    for name in TEMPLATE_FILES:
        digest.update((TEMPLATES / name).read_bytes())
    for prompt, answer in texts:
        digest.update(f"{len(prompt)} {len(answer)} {prompt}{answer}".encode())
    return digest.hexdigest()[:32]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--context", type=int, default=2048, help="longer examples are left out")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    try:
        prepared = prepare(**vars(options))
    except PreparationError as error:
        raise SystemExit(f"prepare: {error}") from error
    print(json.dumps(asdict(prepared), indent=2))


if __name__ == "__main__":
    main()
