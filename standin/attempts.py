"""Makes repairs of what a trained stand-in gets wrong: its own failed attempts, each towards the nearest right answer.

    python -m standin.attempts --data FOLDER --samples FOLDER [FOLDER ...] [--workers N]

`--samples` are folders that `python -m standin.evaluate ... --seeds train:A..B` has left, best of seeds that the model
has not been trained on: what it knows it gets right. What comes out lies beside the other examples in `--data`, for
`python -m standin.prepare`.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from standin.evaluate import SAMPLES_FILE, name_of
from standin.evaluation import RecordError, Sample, read_samples
from standin.examples import Example, repair_of, write_examples
from standin.pairs import answers, pair

ATTEMPTS_FILE = "attempts.jsonl"
# Answers to a problem that the nearest is chosen from, besides its own.
NUM_ANSWERS = 15


def failures_of(samples: Iterable[Sample]) -> list[Sample]:
    """One for each different attempt that failed with its code whole, in order of their keys."""
    found = {
        (sample.problem, sample.source): sample
        for sample in sorted(samples, key=lambda sample: sample.key)
        if not sample.passed and sample.source and not sample.truncated
    }
    return list(found.values())


def repair_for(sample: Sample) -> Example:
    """From the attempt to the right answer that is most like it. ValueError where the sample is of no training pair."""
    seed = sample.problem.rpartition("_")[2]
    made = pair(int(seed), split="train") if seed.isdecimal() else None
    if made is None or name_of(made) != sample.problem:
        raise ValueError(f"{sample.problem}: no training pair has that name")
    nearest = max(answers(made, NUM_ANSWERS), key=lambda answer: _likeness(answer, sample.source))
    return repair_of(made, attempt=sample.source, feedback=sample.feedback, answer=nearest)


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.splitlines(), other.splitlines(), autojunk=False).ratio()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.attempts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of python -m standin.evaluate")
    parser.add_argument("--copies", type=int, default=1, help="how often each is written: its weight beside others")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    out: Path = options.data / ATTEMPTS_FILE
    try:
        samples = [s for folder in options.samples for s in read_samples(folder / SAMPLES_FILE).values()]
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            repairs = list(pool.map(repair_for, failures_of(samples), chunksize=16))
    except (OSError, ValueError, RecordError) as error:
        raise SystemExit(f"attempts: {error}") from error
    write_examples(repairs * options.copies, out)
    num_failed = sum(not sample.passed for sample in samples)
    print(f"{out}: {len(repairs)} repairs of {num_failed} failed attempts, of {len(samples)} samples")


if __name__ == "__main__":
    main()
