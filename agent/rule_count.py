"""What came of mending by rules in a run. Knows nothing of the rules and of how it is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from agent.mending import FIXED_BY
from sandbox.types import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """How many candidates a rule had a part in mending, and how many of those passed."""

    rule: str
    num_applied: int
    num_passed: int


class RuleTally:
    """Counts verdict by verdict. Several rules may share in one candidate."""

    def __init__(self) -> None:
        self._applied, self._passed = Counter[str](), Counter[str]()

    def add(self, verdict: Verdict) -> None:
        found = [label.removeprefix(FIXED_BY) for label in verdict.labels if label.startswith(FIXED_BY)]
        self._applied.update(found)
        self._passed.update(found if verdict.passed else ())

    @property
    def counts(self) -> tuple[RuleCount, ...]:
        """The most used rule first."""
        return tuple(
            RuleCount(rule=rule, num_applied=count, num_passed=self._passed[rule])
            for rule, count in self._applied.most_common()
        )
