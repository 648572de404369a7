"""Generated examples, and their files of JSON lines. Knows nothing of judging or training."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from standin.pairs import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A verified answer to a problem; a repair also has the attempt that failed and what the judge said of it."""

    kind: str
    seed: int
    split: str
    family: str
    problem: str
    answer: str
    attempt: str | None = None
    feedback: str | None = None


def draft_of(made: Pair) -> Example:
    return Example(
        kind="draft", seed=made.seed, split=made.split, family=made.family, problem=made.problem, answer=made.answer
    )


def repair_of(made: Pair, *, attempt: str, feedback: str, answer: str | None = None) -> Example:
    """From the failed attempt to an answer of the pair's problem, its own if none is named."""
    return Example(
        kind="repair", seed=made.seed, split=made.split, family=made.family, problem=made.problem,
        answer=answer or made.answer, attempt=attempt, feedback=feedback,
    )  # fmt: skip


def read_examples(path: Path) -> list[Example]:
    """Every example of one file, in its order. Raises ValueError on a line that is none."""
    return [Example(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def write_examples(examples: Iterable[Example], path: Path) -> None:
    """One a line; keys that an example does not have are left out."""
    lines = (json.dumps({k: v for k, v in asdict(example).items() if v is not None}) for example in examples)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
