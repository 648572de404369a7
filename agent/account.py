"""What one search, or all of a run's, have spent so far, by what the events of the ledger cost.

Knows no limits and no prices. The same events give the same figures, live and in a replay.
"""

from __future__ import annotations

from agent.events import DurableEvent, Judged, Sampled
from agent.sampler import WITHOUT_MODEL
from sandbox.types import Spend


class Account:
    """Only results cost: a proposal without an answer, a verdict that is used again and a confirmation are free."""

    def __init__(self) -> None:
        self._num_samples = self._num_prompt_tokens = self._num_completion_tokens = self._num_judged = 0
        self._gpu_seconds = 0.0
        self._wall_seconds: dict[int, float] = {}  # by epoch

    def charge(self, event: DurableEvent, *, epoch: int, seconds: float) -> None:
        self.pass_time(epoch=epoch, seconds=seconds)
        match event:
            case Sampled(proposal=proposal):
                self._num_samples += proposal.operator not in WITHOUT_MODEL
                self._num_prompt_tokens += event.prompt_tokens
                self._num_completion_tokens += event.completion_tokens
            case Judged(verdict=verdict):
                self._num_judged += 1
                self._gpu_seconds += verdict.spend.gpu_seconds

    def pass_time(self, *, epoch: int, seconds: float) -> None:
        """It was still going on at `seconds` of `epoch`."""
        self._wall_seconds[epoch] = max(seconds, self._wall_seconds.get(epoch, 0.0))

    @property
    def spend(self) -> Spend:
        return Spend(
            samples=self._num_samples,
            tokens=self._num_prompt_tokens + self._num_completion_tokens,
            completion_tokens=self._num_completion_tokens,
            judged=self._num_judged,
            gpu_seconds=self._gpu_seconds,
            wall_seconds=sum(self._wall_seconds.values()),
        )
