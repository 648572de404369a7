"""Draws a run's events: a live display on a terminal, a line every few seconds elsewhere, or JSON, one object a line.

Decides nothing and stores nothing; what has to last is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent import wording
from agent.events import (
    Confirmed,
    Event,
    Judged,
    NewBest,
    Proposed,
    RunEnded,
    RunStarted,
    Sampled,
    SearchEnded,
    Starting,
    Unsampled,
)
from agent.tally import Tally
from sandbox import strict_json

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal
REFRESHES_PER_SECOND = 4.0
PLAIN_WIDTH = 200  # columns of what is shown in a file or a pipe, where nothing can be asked


class Display(Protocol):
    """Something that events can be shown on, as a context manager around the run."""

    def show(self, event: Event) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def tally_lines(tally: Tally) -> list[str]:
    """Where the run stands, as two lines."""
    rate = tally.judged_per_second
    left = tally.seconds_left_told
    fastest = tally.fastest
    passed = len(tally.best)
    return [
        f"problems {tally.num_done}/{tally.num_problems} done, {passed} solved, {tally.num_confirmed} confirmed | "
        f"samples {tally.num_samples} | "
        f"judged {tally.num_judged}" + ("" if rate is None else f" ({rate * 60:.0f} a minute)"),
        (f"{counts} | " if (counts := wording.statuses_cell(tally.num_by_status)) else "")
        + "best speedup "
        + (wording.NOT_TIMED if fastest is None else f"{wording.speedup_text(fastest[1])} on {fastest[0]}")
        + ("" if not left else f" | at most {wording.duration_text(left)} left"),
    ]


def starting_text(event: Starting) -> str:
    return f"starting {event.what} ..."


class LiveDisplay:
    """Redraws in place. For terminals."""

    def __init__(self, *, console: Console, clock: Callable[[], float]) -> None:
        self._tally = Tally(clock=clock)
        self._run_dir: str | None = None  # that was told
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True)

    def show(self, event: Event) -> None:
        if isinstance(event, Starting):
            if event.run_dir != self._run_dir:
                self._run_dir = event.run_dir
                self._live.console.print(f"run folder: {event.run_dir}", markup=False, highlight=False, soft_wrap=True)
            self._live.update(Text(starting_text(event)))
            return
        self._tally.add(event)
        bar = ProgressBar(total=max(1, self._tally.num_problems), completed=self._tally.num_done, width=60)
        rows = Table.grid()
        rows.add_row(bar)
        for line in tally_lines(self._tally):
            rows.add_row(Text(line))  # as a plain string it would be read as markup
        self._live.update(rows)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class PlainDisplay:
    """One line every few seconds, for logs and pipes."""

    def __init__(self, *, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._tally = Tally(clock=clock)
        self._shown_at: float | None = None
        self._told: str | None = None
        self._run_dir: str | None = None  # that was told

    def show(self, event: Event) -> None:
        if isinstance(event, Starting):
            if event.run_dir != self._run_dir:
                self._run_dir = event.run_dir
                print(f"run folder: {event.run_dir}", file=self._stream)
            print(starting_text(event), file=self._stream, flush=True)
            return
        self._tally.add(event)
        now = self._clock()
        ended = isinstance(event, RunEnded)
        if self._shown_at is not None and now - self._shown_at < PLAIN_SECONDS and not ended:
            return
        line = " | ".join(tally_lines(self._tally))
        if not ended or line != self._told:
            print(line, file=self._stream, flush=True)
        self._shown_at, self._told = now, line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""


class JsonDisplay:
    """One object a line; `event` says which it is. The end of the run is told by the `summary` object, not here."""

    def __init__(self, *, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Event) -> None:
        if (line := event_json(event)) is not None:
            print(strict_json.dumps(line), file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""


def event_json(event: Event) -> dict[str, Any] | None:
    """An event as plain data, without prompts and sources, which are in the run folder. None for the last one."""
    match event:
        case RunStarted():
            return {"event": "run_started", "problems": [search.problem_id for search in event.searches]}
        case Proposed(problem_id=problem_id, proposal=proposal):
            return {
                "event": "proposed",
                "problem": problem_id,
                "proposal": proposal.id,
                "operator": proposal.operator,
            } | {"parents": list(proposal.parents)}
        case Sampled():
            return sampled_json(event)
        case Unsampled(problem_id=problem_id, proposal=proposal, reason=reason):
            return {"event": "unsampled", "problem": problem_id, "proposal": proposal.id, "reason": reason}
        case Judged(problem_id=problem_id, verdict=verdict):
            return {"event": "judged", "problem": problem_id} | wording.verdict_json(verdict)
        case NewBest(problem_id=problem_id, verdict=verdict):
            speedup = verdict.speedup if verdict.timed else None
            return {"event": "new_best", "problem": problem_id, "candidate": verdict.candidate_id, "speedup": speedup}
        case Confirmed(problem_id=problem_id, verdict=verdict):
            return {"event": "confirmed", "problem": problem_id} | wording.verdict_json(verdict)
        case SearchEnded(problem_id=problem_id, end=end, detail=detail):
            return {"event": "search_ended", "problem": problem_id, "end": end, "detail": detail}
        case Starting(run_dir=run_dir, what=what):
            return {"event": "starting", "run_dir": run_dir, "what": what}
        case RunEnded():
            return None


def sampled_json(event: Sampled) -> dict[str, Any]:
    return {
        "event": "sampled",
        "problem": event.problem_id,
        "proposal": event.proposal.id,
        "candidate": event.candidate.id,
        "truncated": event.candidate.truncated,
        "finish_reason": event.finish_reason,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
    }
