"""Makes repairs of what a trained stand-in gets wrong: its own failed attempts, each with the nearest verified answer.

    python -m standin.attempts --data FOLDER --samples FOLDER [FOLDER ...]

`--samples` are folders that `python -m standin.evaluate ... --repairs 0` has left, on training examples of `--data`,
best on such as the model has not been trained on: what it knows it gets right. What comes out lies beside the other
examples, for `python -m standin.prepare`.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sandbox.types import Operator
from standin.evaluate import SAMPLES_FILE, name_of
from standin.evaluation import RecordError, Sample, read_samples
from standin.examples import Example, read_examples, write_examples

ATTEMPTS_FILE = "attempts.jsonl"


def repairs_of(samples: Iterable[Sample], *, answers: Mapping[str, Sequence[Example]]) -> list[Example]:
    """A repair for each different attempt that failed with its code whole. `answers` are the verified ones to each
    problem, by its name; ValueError for a sample whose problem is not among them, or is held out."""
    found: dict[tuple[str, str], Example] = {}
    for sample in samples:
        known = answers.get(sample.problem, ())
        if not known or any(example.split != "train" for example in known):
            raise ValueError(f"{sample.problem}: no training example of that name")
        if sample.operator is Operator.DRAFT and not sample.passed and sample.source and not sample.truncated:
            nearest = max(known, key=lambda example: _likeness(example.answer, sample.source))
            found[sample.problem, sample.source] = Example(
                kind="repair", seed=nearest.seed, split="train", family=nearest.family, problem=nearest.problem,
                answer=nearest.answer, attempt=sample.source, feedback=sample.feedback,
            )  # fmt: skip
    return [found[key] for key in sorted(found)]


def answers_by_name(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """The drafts among the examples, by the names that `standin.evaluate` gives their problems."""
    by_problem: dict[str, list[Example]] = {}
    for example in examples:
        if example.kind == "draft":
            by_problem.setdefault(example.problem, []).append(example)
    return {name_of(example): same for same in by_problem.values() for example in same}


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.splitlines(), other.splitlines(), autojunk=False).ratio()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m standin.attempts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of generated *.jsonl")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="folders of python -m standin.evaluate")
    options = parser.parse_args()
    out: Path = options.data / ATTEMPTS_FILE
    paths = sorted(path for path in options.data.glob("*.jsonl") if path != out)
    try:
        answers = answers_by_name(example for path in paths for example in read_examples(path))
        samples = [s for folder in options.samples for s in read_samples(folder / SAMPLES_FILE).values()]
        repairs = repairs_of(samples, answers=answers)
    except (OSError, ValueError, TypeError, RecordError) as error:
        raise SystemExit(f"attempts: {error}") from error
    write_examples(repairs, out)
    num_failed = sum(not sample.passed for sample in samples)
    print(f"{out}: {len(repairs)} repairs of {num_failed} failed attempts, of {len(samples)} samples")


if __name__ == "__main__":
    main()
