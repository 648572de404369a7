"""Training from where it stands to a limit: steps, lines of progress, held-out losses, and states to go on from.

Knows nothing of files but the state's. The clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import torch

from standin.schedule import Schedule, steps_within
from standin.trainer import StateError, Trainer


class End(StrEnum):
    """Why a training ended."""

    COMPLETED = "completed"
    PAUSED = "paused"
    OUT_OF_TIME = "out_of_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop: `num_steps` in all, or as many as fit before `deadline` (seconds on the clock in use); one of the
    two is set. `pause_at` stops at that step, to be resumed."""

    num_steps: int | None
    deadline: float | None
    pause_at: int | None

    def __post_init__(self) -> None:
        if (self.num_steps is None) == (self.deadline is None):
            raise ValueError("either a number of steps or a deadline")


@dataclass(slots=True, kw_only=True)
class Progress:
    """What is told of a training besides its weights. Losses are mean nats an answer token, each with its step."""

    num_steps: int | None = None
    seconds: float = 0.0
    num_places: int = 0
    train_losses: list[list[float]] = field(default_factory=list)
    held_out_losses: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often training looks up from its work, in steps and seconds."""

    tell_steps: int
    held_out_steps: int
    save_seconds: float


class Training:
    """A trainer at work until a limit. `tell` is given a line of progress now and then."""

    def __init__(
        self,
        trainer: Trainer,
        *,
        schedule: Schedule,
        state: Path,
        rhythm: Rhythm,
        clock: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self.progress = Progress(num_steps=schedule.num_steps)
        self._trainer = trainer
        self._schedule = schedule
        self._state = state
        self._rhythm = rhythm
        self._clock = clock
        self._tell = tell
        self._saved_at = self._told_at = clock()
        self._window = Window()

    def resume(self) -> None:
        """Goes on from the state file. Raises StateError."""
        progress = Progress(**self._trainer.load(self._state))
        asked = self._schedule.num_steps
        if asked is not None and progress.num_steps not in (None, asked):
            raise StateError(f"{self._state}: is of a training of {progress.num_steps} steps, not {asked}")
        progress.num_steps = progress.num_steps or asked
        self.progress = progress
        self._schedule = replace(self._schedule, num_steps=progress.num_steps)

    def run(self, limits: Limits) -> End:
        """Trains, and leaves a state file where it stopped."""
        begun, before = self._clock(), self.progress.seconds
        end = self._steps(limits)
        self._look_at_held_out()
        self.progress.seconds = before + self._clock() - begun
        self._save()
        return end

    def _steps(self, limits: Limits) -> End:
        trainer, warmup = self._trainer, self._schedule.warmup_steps
        pace_from = (trainer.step, self._clock())
        while (last := self._schedule.num_steps) is None or trainer.step < last:
            if trainer.step == limits.pause_at:
                return End.PAUSED
            if trainer.step == warmup // 2:
                pace_from = (trainer.step, self._settled_clock())
            if last is None and trainer.step >= warmup:
                self._set_num_steps(limits, pace_from=pace_from)
            self._window.add(*trainer.learn(self._schedule))
            if trainer.step % self._rhythm.tell_steps == 0 or trainer.step == last:
                self._look_up()
                if limits.deadline is not None and self._clock() > limits.deadline:
                    return End.OUT_OF_TIME if trainer.step != last else End.COMPLETED
        return End.COMPLETED

    def _set_num_steps(self, limits: Limits, *, pace_from: tuple[int, float]) -> None:
        """From the pace of the second half of the warm-up, by which every width has been compiled."""
        assert limits.deadline is not None, "without a deadline the number of steps is given"
        now, step = self._settled_clock(), self._trainer.step
        pace = (now - pace_from[1]) / max(1, step - pace_from[0])
        self.progress.num_steps = steps_within(limits.deadline - now, step=step, seconds_per_step=pace)
        self._schedule = replace(self._schedule, num_steps=self.progress.num_steps)
        self._tell(f"{1000 * pace:.1f} ms a step: {self.progress.num_steps} steps fit")

    def _look_up(self) -> None:
        step, places = self._trainer.step, self._window.num_places
        loss = self._window.close()  # waits for the device
        now = self._clock()
        self.progress.train_losses.append([step, loss])
        self.progress.num_places += places
        rate = places / max(now - self._told_at, 1e-9)
        self._tell(f"step {step}/{self.progress.num_steps or '?'}  loss {loss:.4f}  {rate:,.0f} tokens/s")
        if step % self._rhythm.held_out_steps == 0 and step != self.progress.num_steps:
            self._look_at_held_out()
        if now - self._saved_at > self._rhythm.save_seconds:
            self._save()
        self._told_at = self._clock()

    def _look_at_held_out(self) -> None:
        loss = self._trainer.held_out_loss()
        self.progress.held_out_losses.append([self._trainer.step, loss])
        self._tell(f"step {self._trainer.step}  held-out loss {loss:.4f}")

    def _save(self) -> None:
        self._trainer.save(self._state, progress=asdict(self.progress))
        self._saved_at = self._clock()

    def _settled_clock(self) -> float:
        """The time when the device has done what it was given."""
        self._window.wait()
        return self._clock()


class Window:
    """Losses since they were last told, added up on the device so that no step waits for its figure."""

    def __init__(self) -> None:
        self.num_places = 0
        self._num_steps = 0
        self._total: torch.Tensor | None = None

    def add(self, loss: torch.Tensor, num_places: int) -> None:
        self.num_places += num_places
        self._num_steps += 1
        self._total = loss if self._total is None else self._total + loss

    def wait(self) -> None:
        if self._total is not None:
            self._total.item()

    def close(self) -> float:
        """The mean loss; begins anew."""
        assert self._total is not None, "no step since the last time"
        mean = float(self._total) / self._num_steps
        self.num_places, self._num_steps, self._total = 0, 0, None
        return mean
