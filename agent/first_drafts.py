"""Which drafts of which searches are counted as independent answers, and how many of each.

A search that ends by tokens has more answers where they were short, so counting all that it has would count the short
ones more often. What is counted here is a number that hardly depends on any search's own answers: the first m, in the
order in which they were proposed, not in that of arrival. Knows nothing of ledgers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.statistics import Draws
from sandbox.types import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What the judge said of one draft. `speedup` is None where it was not timed."""

    passed: bool
    speedup: float | None

    @classmethod
    def of(cls, verdict: Verdict) -> Drawn:
        return cls(passed=verdict.passed, speedup=verdict.speedup if verdict.timed else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """One search's, in the order of proposals; None where there is no verdict.

    `refused` says that a draft got no answer and no later one would have: the sampler does not take the prompt, or has
    no more answers on record.
    """

    drawn: tuple[Drawn | None, ...]
    refused: bool

    @property
    def judged(self) -> tuple[Drawn, ...]:
        """Those before the first without a verdict."""
        found = itertools.takewhile(lambda drawn: drawn is not None, self.drawn)
        return tuple(drawn for drawn in found if drawn is not None)


def draws_of(by_problem: Mapping[str, Sequence[Drafts]], *, recorded: bool) -> dict[str, Draws]:
    """The first m drafts of each of a problem's searches, all of them together.

    m is what nine in ten of all searches have verdicts on, and no more than the problem's shortest search has: a short
    search costs its own problem answers and no other. A search whose prompt is refused is as long as any, and what it
    lacks has failed: the problem cannot be asked. `recorded` says that answers come from a recording, where a refusal
    is only its end.
    """
    failing = {id: [d.refused and not recorded for d in searches] for id, searches in by_problem.items()}
    lengths = {
        id: [len(d.judged) for d, fails in zip(searches, failing[id], strict=True) if not fails]
        for id, searches in by_problem.items()
    }
    most = had_by_most(length for found in lengths.values() for length in found) or 1
    drawn = {}
    for id, searches in by_problem.items():
        num = min([*lengths[id], most])
        drawn[id] = _together([d.judged[:num] for d in searches], num=num * len(searches))
    return drawn


def had_by_most(counts: Iterable[int]) -> int:
    """The most that at least nine in ten of `counts` reach (of five or fewer: all), those of 0 aside. 0 without any."""
    found = sorted(count for count in counts if count)
    return found[round(len(found) / 10)] if found else 0


def _together(searches: Sequence[Sequence[Drawn]], *, num: int) -> Draws:
    """`num` in all: those that are missing could not be asked."""
    passed = [drawn for found in searches for drawn in found if drawn.passed]
    speedups = tuple(drawn.speedup for drawn in passed if drawn.speedup is not None)
    return Draws(num=num, num_passed=len(passed), speedups=speedups)
