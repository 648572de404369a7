"""The whole run against its limits: what all searches have spent and reserved together.

Knows nothing of strategies or of turns. Searches tell it what they spend and reserve, and ask it before they propose.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.account import Account
from agent.events import DurableEvent
from sandbox.types import Budget, Prices, Spend

OF_MODELS = frozenset({"samples", "tokens"})  # the currencies that a fix or a tuning point takes nothing of


class RunBudget:
    """Budgets of the run are held here by reserve and commit, over all its epochs.

    A proposal is asked for only while what is spent and reserved stays under every limit. Samples and verdicts in
    flight are reserved; tokens, GPU seconds and so dollars are known only afterwards, so what is in flight may overrun
    those, and nothing else can.
    """

    def __init__(self, limits: Budget, *, prices: Prices) -> None:
        self._limits = limits
        self._prices = prices
        self._account = Account()
        self._reserved: dict[str, tuple[int, int]] = {}  # samples and verdicts, by problem id
        self._num_samples = self._num_judged = 0  # of all of them
        self._bounded = limits != Budget()

    @property
    def limits(self) -> Budget:
        return self._limits

    @property
    def prices(self) -> Prices:
        return self._prices

    def charge(self, event: DurableEvent, *, epoch: int, seconds: float) -> None:
        self._account.charge(event, epoch=epoch, seconds=seconds)

    def pass_time(self, *, epoch: int, seconds: float) -> None:
        self._account.pass_time(epoch=epoch, seconds=seconds)

    @property
    def spend(self) -> Spend:
        """The whole run's, its wall time with that of earlier epochs."""
        return self._account.spend

    def reserve(self, problem_id: str, *, samples: int, judged: int) -> None:
        """What one search has open now, in place of what it had."""
        samples_before, judged_before = self._reserved.pop(problem_id, (0, 0))
        self._num_samples += samples - samples_before
        self._num_judged += judged - judged_before
        if samples or judged:
            self._reserved[problem_id] = (samples, judged)

    def reached(self, *, but: Collection[str] = ()) -> str | None:
        """The limit that what is spent and reserved has reached: nothing may be proposed now. `but` names currencies
        that the next proposal takes nothing of."""
        if not self._bounded:
            return None
        reserved = Spend(samples=self._num_samples, judged=self._num_judged)
        return self._limits.reached_by(self._account.spend + reserved, prices=self._prices, but=but)

    def used_up(self, *, but: Collection[str] = ()) -> str | None:
        """The limit that what is spent alone has reached: nothing may be proposed any more."""
        return self._limits.reached_by(self._account.spend, prices=self._prices, but=but) if self._bounded else None

    @property
    def settled(self) -> bool:
        """Whether a search that was held back by what others had reserved can now be told go on, or end."""
        return self.reached() is None or self.used_up() is not None
