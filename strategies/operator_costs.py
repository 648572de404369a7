"""What asking for an answer of each operator takes, in drafts: as stated at first, more and more as measured.

Knows nothing of budgets or prices: tokens are what a strategy is told of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sandbox.types import Operator

STATED_COUNTS = 4  # so many answers' worth is what was stated


class OperatorCosts:
    """`stated` are in drafts; an operator without one is stated at one."""

    def __init__(self, stated: Mapping[Operator, float]) -> None:
        self._stated = dict(stated)
        self._num_answers: Counter[Operator] = Counter()
        self._num_tokens: Counter[Operator] = Counter()

    def note(self, operator: Operator, *, num_tokens: int) -> None:
        self._num_answers[operator] += 1
        self._num_tokens[operator] += num_tokens

    def of(self, operator: Operator) -> float:
        """The mean over answers, in mean drafts, with the statement beside them; that alone until a draft was told."""
        stated = self._stated.get(operator, 1.0)
        num_drafts, in_drafts = self._num_answers[Operator.DRAFT], self._num_tokens[Operator.DRAFT]
        if not in_drafts:
            return stated
        measured = self._num_tokens[operator] * num_drafts / in_drafts
        return (STATED_COUNTS * stated + measured) / (STATED_COUNTS + self._num_answers[operator])
