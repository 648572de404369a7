"""What became of samples on held-out problems: their record in a file, and the figures that follow from it.

Knows nothing of samplers or judges.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from agent.statistics import share_with_any
from sandbox.types import Operator, Status
from standin.estimates import Estimate, interval, passed_within, ratio_of_sums

SampleKey = tuple[str, Operator, int]  # problem, how it was asked, number


class RecordError(ValueError):
    """A file of samples is not usable. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer and its verdict. A repair has the `number` of the draft that it mends."""

    problem: str
    operator: Operator
    number: int
    status: Status
    truncated: bool
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    completion: str
    source: str
    feedback: str

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED

    @property
    def key(self) -> SampleKey:
        return self.problem, self.operator, self.number

    def cost(self, *, prompts: bool) -> int:
        """Tokens written, and with `prompts` also those read."""
        return self.completion_tokens + (self.prompt_tokens if prompts else 0)


class SampleFile:
    """Samples as JSON lines, appended as they come. Opening one takes in what an earlier evaluation left."""

    def __init__(self, path: Path) -> None:
        """A last line that was not written to its end is cut off. Raises RecordError."""
        path.touch()
        self.samples = read_samples(path)
        self._file: BinaryIO = path.open("ab")
        self._file.truncate(_whole_bytes(path.read_bytes()))

    def add(self, sample: Sample) -> None:
        self.samples[sample.key] = sample
        self._file.write(json.dumps(asdict(sample)).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_samples(path: Path) -> dict[SampleKey, Sample]:
    """By key; a last line that was not written to its end is left aside. Raises RecordError."""
    raw = path.read_bytes()
    samples: dict[SampleKey, Sample] = {}
    for number, line in enumerate(raw[: _whole_bytes(raw)].splitlines(), start=1):
        try:
            found = Sample(**_with_enums(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(f"{path}:{number}: {error}") from error
        samples[found.key] = found
    return samples


def _whole_bytes(raw: bytes) -> int:
    """How many bytes the lines have that end."""
    return raw.rfind(b"\n") + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One repair turn against drawing again for as many tokens, over the same failed drafts.

    `tokens` says what was counted. `compared` are the failures that both sides were asked to mend; `left_out` those
    whose problem had too few other drafts to spend as much on, whatever came of those.
    """

    tokens: str
    compared: int
    left_out: int
    repaired: Estimate
    redrawn: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Figures over `num_problems` problems with `num_drafts` drafts each, of `num_asked` that were to be had.
    `num_repairs` failures were to be mended, and `mended` is the share of them all that one repair mended."""

    num_asked: int
    num_problems: int
    num_drafts: int
    pass_at: Mapping[int, Estimate]
    pass_at_1_of: Mapping[str, Estimate]
    statuses: Mapping[str, int]
    repair_statuses: Mapping[str, int]
    num_repairs: int
    mended: Estimate | None
    comparisons: tuple[Comparison, ...]
    mean_prompt_tokens: float
    mean_completion_tokens: float
    truncated: int


def evaluation_of(samples: Iterable[Sample], *, groups: Mapping[str, str], num_drafts: int, seed: int) -> Evaluation:
    """Of the problems in `groups` that have all their drafts; those of a group are also told apart. Raises RecordError
    if there is none."""
    drafts: dict[str, list[Sample]] = {}
    repairs: dict[tuple[str, int], Sample] = {}
    for sample in sorted((s for s in samples if s.problem in groups), key=lambda sample: sample.key):
        if sample.operator is Operator.DRAFT and sample.number < num_drafts:
            drafts.setdefault(sample.problem, []).append(sample)
        elif sample.operator is Operator.REPAIR:
            repairs[sample.problem, sample.number] = sample
    whole = {problem: found for problem, found in drafts.items() if len(found) == num_drafts}
    if not whole:
        raise RecordError(f"no problem has {num_drafts} drafts")
    passed = {problem: sum(sample.passed for sample in found) for problem, found in whole.items()}
    counts = list(passed.values())
    by_group = {g: [n for name, n in passed.items() if groups[name] == g] for g in sorted({groups[p] for p in passed})}
    every = [sample for found in whole.values() for sample in found]
    asked = [sample for (problem, _), sample in repairs.items() if problem in whole]
    return Evaluation(
        num_asked=len(groups),
        num_problems=len(whole),
        num_drafts=num_drafts,
        pass_at={k: _pass_at(counts, num_drafts=num_drafts, k=k, seed=seed) for k in _powers(num_drafts)},
        pass_at_1_of={group: _pass_at(each, num_drafts=num_drafts, k=1, seed=seed) for group, each in by_group.items()},
        statuses=_statuses(every),
        repair_statuses=_statuses(asked),
        num_repairs=len(asked),
        mended=_mended(asked, seed=seed),
        comparisons=tuple(found for p in (True, False) if (found := _compare(whole, repairs, prompts=p, seed=seed))),
        mean_prompt_tokens=sum(s.prompt_tokens for s in every) / len(every),
        mean_completion_tokens=sum(s.completion_tokens for s in every) / len(every),
        truncated=sum(s.truncated for s in every),
    )


def to_repair(drafts: Sequence[Sample], *, most: int, seed: int) -> list[Sample]:
    """Of one problem's drafts, those to be repaired: `most` are chosen by lot, and of these the ones that failed with
    their code whole.

    The lot is drawn without a look at what came out. Were the first failures taken, the drafts before them would be
    passes, and where few failed each would be chosen: either way the others would be better than chance, and it is
    with them that repairs are compared.
    """
    chosen = _by_lot(drafts, f"repair {seed}")[:most]
    return [draft for draft in chosen if not draft.passed and draft.source and not draft.truncated]


def _by_lot(drafts: Sequence[Sample], seed: str) -> list[Sample]:
    """In an order that depends on their problem and numbers alone."""
    return sorted(drafts, key=lambda draft: random.Random(f"{seed} {draft.problem} {draft.number}").random())


def _mended(repairs: Sequence[Sample], *, seed: int) -> Estimate | None:
    """The share of repairs that passed; None without any."""
    of: dict[str, list[bool]] = {}
    for repair in repairs:
        of.setdefault(repair.problem, []).append(repair.passed)
    counts = [(float(sum(each)), float(len(each))) for each in of.values()]
    return interval(counts, figure=ratio_of_sums, seed=seed) if counts else None


def _pass_at(counts: Sequence[int], *, num_drafts: int, k: int, seed: int) -> Estimate:
    chances = [share_with_any(num_drafts, count, k) for count in counts]
    return interval(chances, figure=lambda drawn: sum(drawn) / len(drawn), seed=seed)


def _powers(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    powers = [2**place for place in range(most.bit_length()) if 2**place < most]
    return [*powers, most]


def _statuses(samples: Sequence[Sample]) -> dict[str, int]:
    return {status.value: count for status, count in Counter(s.status for s in samples).most_common()}


def _compare(
    drafts: Mapping[str, Sequence[Sample]],
    repairs: Mapping[tuple[str, int], Sample],
    *,
    prompts: bool,
    seed: int,
) -> Comparison | None:
    """None where no failure can be compared.

    The problem's other drafts, in an order by lot, are what drawing again would have given: they were drawn without
    knowing of this failure, and it was chosen without knowing of them.
    """
    per_problem: list[tuple[float, float, float]] = []
    left_out = 0
    for problem, found in drafts.items():
        repaired, redrawn, count = 0.0, 0.0, 0
        for failed in found:
            repair = repairs.get((problem, failed.number))
            if repair is None:
                continue
            rest = _by_lot([s for s in found if s is not failed], f"again {failed.number} {seed}")
            others = [(s.cost(prompts=prompts), s.passed) for s in rest]
            again = passed_within(repair.cost(prompts=prompts), draws=others)
            if again is None:
                left_out += 1
                continue
            repaired, redrawn, count = repaired + repair.passed, redrawn + again, count + 1
        if count:
            per_problem.append((repaired, redrawn, float(count)))
    if not per_problem:
        return None
    return Comparison(
        tokens="prompt and completion" if prompts else "completion",
        compared=int(sum(count for _, _, count in per_problem)),
        left_out=left_out,
        repaired=interval(per_problem, figure=lambda d: ratio_of_sums([(r, n) for r, _, n in d]), seed=seed),
        redrawn=interval(per_problem, figure=lambda d: ratio_of_sums([(a, n) for _, a, n in d]), seed=seed),
        difference=interval(per_problem, figure=lambda d: ratio_of_sums([(r - a, n) for r, a, n in d]), seed=seed),
    )


def _with_enums(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "operator": Operator(line["operator"]), "status": Status(line["status"])}
