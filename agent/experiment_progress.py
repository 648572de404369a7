"""Shows an experiment's progress, a line for each arm: cells done, tokens, problems solved.

Decides nothing and stores nothing. What an earlier process did is told as the cells that it finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agent.events import Event, Judged, NewBest, RunEnded, RunStarted, Sampled, SearchSummary
from agent.experiment_config import Cell

PLAIN_SECONDS = 30.0  # between two blocks of lines where there is no terminal
HEAD = ("arm", "cells done", "tokens", "judged", "solved")


@dataclass(slots=True)
class _Standing:
    """Of one arm, over all its cells so far."""

    cells_done: set[int] = field(default_factory=set)  # seeds
    num_tokens: int = 0
    num_judged: int = 0
    solved: set[tuple[int, str]] = field(default_factory=set)  # seed and problem


class ExperimentTally:
    """Adds events up. `num_searches` are one arm's: problems × seeds."""

    def __init__(self, arms: Sequence[str], *, num_seeds: int, num_problems: int) -> None:
        self._arms = {arm: _Standing() for arm in arms}
        self._num_seeds = num_seeds
        self._num_searches = num_seeds * num_problems

    def add(self, cell: Cell, event: Event) -> None:
        standing = self._arms[cell.arm]
        match event:
            case RunStarted(searches=searches):
                self._add_searches(cell, searches)
            case Sampled():
                standing.num_tokens += event.num_tokens
            case Judged():
                standing.num_judged += 1
            case NewBest(problem_id=problem_id):
                standing.solved.add((cell.seed, problem_id))

    def finish(self, cell: Cell, searches: Sequence[SearchSummary] = ()) -> None:
        """`searches` are what is not told by events: of a cell that an earlier process finished."""
        self._arms[cell.arm].cells_done.add(cell.seed)
        self._add_searches(cell, searches)

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                arm,
                f"{len(standing.cells_done)}/{self._num_seeds}",
                f"{standing.num_tokens:,}",
                f"{standing.num_judged:,}",
                f"{len(standing.solved)}/{self._num_searches}",
            )
            for arm, standing in self._arms.items()
        ]

    def _add_searches(self, cell: Cell, searches: Sequence[SearchSummary]) -> None:
        standing = self._arms[cell.arm]
        for search in searches:
            standing.num_tokens += search.spend.tokens
            standing.num_judged += search.spend.judged
            if search.best is not None:
                standing.solved.add((cell.seed, search.problem_id))


class ExperimentDisplay(Protocol):
    """Something that a tally can be shown on, as a context manager around the experiment."""

    def show(self, *, last: bool) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveTable:
    """Redrawn in place. For terminals."""

    def __init__(self, tally: ExperimentTally, *, console: Console) -> None:
        self._tally = tally
        self._live = Live(console=console, refresh_per_second=4.0, transient=True)

    def show(self, *, last: bool) -> None:
        table = Table(*HEAD, box=None)
        for row in self._tally.rows():
            table.add_row(*row)
        self._live.update(table)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class PlainLines:
    """A line an arm, every half a minute. For logs and pipes."""

    def __init__(self, tally: ExperimentTally, *, stream: TextIO, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._stream = stream
        self._clock = clock
        self._shown_at: float | None = None

    def show(self, *, last: bool) -> None:
        now = self._clock()
        if not last and self._shown_at is not None and now - self._shown_at < PLAIN_SECONDS:
            return
        self._shown_at = now
        for arm, *cells in self._tally.rows():
            told = " | ".join(f"{name} {cell}" for name, cell in zip(HEAD[1:], cells, strict=True))
            print(f"{arm}: {told}", file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""


def on_event(tally: ExperimentTally, display: ExperimentDisplay) -> Callable[[Cell, Event], None]:
    """What the experiment tells its events to."""

    def tell(cell: Cell, event: Event) -> None:
        tally.add(cell, event)
        if isinstance(event, RunEnded) and event.outcome == "completed":
            tally.finish(cell)
        display.show(last=False)

    return tell
