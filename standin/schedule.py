"""How long training goes on and how fast it learns at each step. Pure: clock readings are handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass

FINAL_SHARE = 0.02  # of the peak learning rate, at the last step


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up, then half a cosine down to FINAL_SHARE of the peak.

    `num_steps` is None while it is not yet known: under a time limit it is set once the warm-up has shown the pace, and
    the same number of steps asked for outright gives the same training.
    """

    peak_rate: float
    warmup_steps: int
    num_steps: int | None

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0. Raises ValueError where it is not known yet."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        if self.num_steps is None:
            raise ValueError(f"step {step} is after the warm-up, and the number of steps is not set")
        done = (step - self.warmup_steps + 1) / max(1, self.num_steps - self.warmup_steps)
        return self.peak_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def steps_within(seconds: float, *, step: int, seconds_per_step: float) -> int:
    """How many steps there are in all, if `seconds` are left after `step` of them."""
    return step + max(1, int(seconds / seconds_per_step))
