"""Makes repairs of what a trained stand-in gets wrong: its own failed attempts, each towards the nearest right answer.

    python -m standin.attempts --data FOLDER --samples FOLDER [FOLDER ...] [--workers N] [--minutes M]

`--samples` are folders that `python -m standin.evaluate ... --seeds train:A..B` has left, best of seeds that the model
has not been trained on: what it knows it gets right. The nearest answer takes over the attempt's names, and is judged
before it is used. What comes out lies beside the other examples in `--data`, for `python -m standin.prepare`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from sandbox.tracer import ProblemFailed
from sandbox.types import Status
from sandbox.zygote import SandboxError
from standin.evaluate import SAMPLES_FILE, name_of
from standin.evaluation import RecordError, Sample, read_samples
from standin.examples import Example, repair_of, write_examples
from standin.likeness import likeness, named_as
from standin.pairs import pair, plain_answers
from standin.verify import opened

ATTEMPTS_FILE = "attempts.jsonl"
# Answers to a problem that the nearest is chosen from, besides its own.
NUM_ANSWERS = 63
NO_FAILURE = (Status.PASSED, Status.UNVERIFIED)


def failures_of(samples: Iterable[Sample]) -> list[Sample]:
    """One for each different attempt that failed with its code whole, in order of their keys."""
    found = {
        (sample.problem, sample.source): sample
        for sample in sorted(samples, key=lambda sample: sample.key)
        if sample.status not in NO_FAILURE and sample.source and not sample.truncated
    }
    return list(found.values())


def repair_for(sample: Sample) -> Example:
    """From the attempt to the right answer that is most like it, in the attempt's names. ValueError where the sample is
    of no training pair."""
    seed = sample.problem.rpartition("_")[2]
    made = pair(int(seed), split="train") if seed.isdecimal() else None
    if made is None or name_of(made) != sample.problem:
        raise ValueError(f"{sample.problem}: no training pair has that name")
    nearest = max(plain_answers(made, NUM_ANSWERS), key=lambda plain: likeness(plain, sample.source))
    answer = named_as(sample.source, nearest, naming=made.naming)
    return repair_of(made, attempt=sample.source, feedback=sample.feedback, answer=answer)


def judged_repair(sample: Sample, *, deadline: float) -> tuple[str, Example | None]:
    """What became of it, and the repair if our judge passes its answer; after `deadline`, on the clock that all
    processes of a machine share, none is judged. Raises ValueError."""
    if time.monotonic() >= deadline:
        return "out of time", None
    repair = repair_for(sample)
    try:
        verdict = opened().verdict(repair.problem, repair.answer)
    except (ProblemFailed, SandboxError):
        return "not judged", None
    return ("repairs", repair) if verdict.passed else (f"answers that are {verdict.status}", None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.attempts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of python -m standin.evaluate")
    parser.add_argument("--copies", type=int, default=1, help="how often each is written: its weight beside others")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no answer is judged")
    options = parser.parse_args()
    out: Path = options.data / ATTEMPTS_FILE
    work = partial(judged_repair, deadline=time.monotonic() + 60 * options.minutes)
    try:
        samples = [s for folder in options.samples for s in read_samples(folder / SAMPLES_FILE).values()]
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(work, failures_of(samples), chunksize=4))
    except (OSError, ValueError, RecordError) as error:
        raise SystemExit(f"attempts: {error}") from error
    write_examples([repair for _, repair in made if repair is not None] * options.copies, out)
    told = ", ".join(f"{count} {what}" for what, count in Counter(what for what, _ in made).most_common())
    print(f"{out}: {told or 'nothing'}; of {len(samples)} samples, {len(made)} different attempts failed")


if __name__ == "__main__":
    main()
