"""The command `watch`: follows a live run in the terminal, from any machine that sees its folder.

Reads `progress.json` alone, never the ledger, so it can neither disturb the run nor be misled by a network file system
(docs/watch.md). Decides nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent import wording
from agent.config_section import ConfigError
from agent.progress_file import ALIVE_SECONDS
from agent.run_folder import RunFolder
from agent.snapshot import ProblemSnapshot, Snapshot, SnapshotError

POLL_SECONDS = 1.0
SILENT_SECONDS = 3 * ALIVE_SECONDS  # after this long without a write, the run is said to be silent
OTHER_LINES = 9  # of the screen, besides problems and events
NUM_EVENTS_SHOWN = 6
COLUMNS = ("problem", "search", "speedup", "samples", "tokens", "judged", "statuses")
GAP = 2  # between two of them
MIN_NAME = 12  # of a problem's name, however narrow the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read last, and how many seconds ago that was new, by the watcher's own clock. A file that has not been
    seen to change was older when it was first read: by `older_seconds`, as far as clocks agree."""

    snapshot: Snapshot
    age_seconds: float
    older_seconds: float

    @property
    def silence(self) -> str | None:
        """That nothing is heard of a run that has not ended, and what that may mean; None while all is well."""
        if self.snapshot.ended:
            return None
        if self.older_seconds > SILENT_SECONDS:
            told = wording.duration_text(self.age_seconds + self.older_seconds)
            return f"not written for {told} by this machine's clock: killed, cut off, or the clocks disagree"
        if self.age_seconds > SILENT_SECONDS:
            return f"silent for {wording.duration_text(self.age_seconds)}: killed, cut off, or its disk is not reached"
        return None


class Watcher:
    """Reads the file again and again; remembers when it last changed."""

    def __init__(self, path: Path, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._wall_clock = wall_clock
        self._text: str | None = None
        self._changed_at = clock()
        self._older_seconds = 0.0
        self._snapshot: Snapshot | None = None

    def look(self) -> Seen | None:
        """None as long as there is nothing to see. A read that fails once is a file being replaced: the last state
        stands. Raises ConfigError for a file that is no snapshot."""
        text, older_seconds = self._text, 0.0
        with contextlib.suppress(OSError):
            text = self._path.read_text(encoding="utf-8")
            if self._text is None:
                older_seconds = max(0.0, self._wall_clock() - self._path.stat().st_mtime)
        if text is not None and text != self._text:
            try:
                self._snapshot = Snapshot.from_json(text)
            except SnapshotError as error:
                raise ConfigError(f"{self._path}: {error}") from error
            self._text, self._changed_at, self._older_seconds = text, self._clock(), older_seconds
        if self._snapshot is None:
            return None
        age_seconds = self._clock() - self._changed_at
        return Seen(snapshot=self._snapshot, age_seconds=age_seconds, older_seconds=self._older_seconds)


def watch(
    folder: RunFolder,
    *,
    console: Console,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
    sleep: Callable[[float], None],
    live: bool,
) -> int:
    """Until the run ends, or an interrupt: both are 0. Raises ConfigError where the run leaves nothing to watch.

    `live` redraws in place; otherwise a line is printed whenever something changed. `wall_clock` gives seconds since
    the epoch, as files have them.
    """
    watcher = Watcher(folder.progress, clock=clock, wall_clock=wall_clock)
    if watcher.look() is None:
        raise ConfigError(
            f"{folder.root}: has no {folder.progress.name}: the run was never begun, or compare shows how it goes"
        )
    try:
        return _follow_live(watcher, console=console, sleep=sleep) if live else _follow(watcher, console, sleep=sleep)
    except KeyboardInterrupt:
        return 0


def _follow_live(watcher: Watcher, *, console: Console, sleep: Callable[[float], None]) -> int:
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            seen = watcher.look()
            assert seen is not None  # once seen, always seen
            screen.update(page(seen, width=console.width, height=console.height), refresh=True)
            if seen.snapshot.ended:
                return 0
            sleep(POLL_SECONDS)


def _follow(watcher: Watcher, console: Console, *, sleep: Callable[[float], None]) -> int:
    told: tuple[object, ...] = ()
    while True:
        seen = watcher.look()
        assert seen is not None
        standing = (*standing_lines(seen), seen.silence is not None)  # a silence grows, and is told once
        if standing != told:
            console.print(" | ".join(lines_of(seen)), markup=False, highlight=False, soft_wrap=True)
            told = standing
        if seen.snapshot.ended:
            return 0
        sleep(POLL_SECONDS)


def lines_of(seen: Seen) -> Iterator[str]:
    """The run as a whole, in a few lines."""
    yield from standing_lines(seen)
    if seen.silence is not None:
        yield seen.silence


def standing_lines(seen: Seen) -> Iterator[str]:
    """What was heard of it last."""
    snapshot = seen.snapshot
    done = sum(problem.end is not None for problem in snapshot.problems)
    solved = sum(problem.solved for problem in snapshot.problems)
    error = "" if snapshot.error is None else f": {snapshot.error}"
    then = "" if seen.silence is None else " when last heard of"
    yield f"{snapshot.state}{then}{error}, {wording.duration_text(snapshot.seconds)}"
    yield f"problems {done}/{len(snapshot.problems)} done, {solved} solved, {snapshot.num_confirmed} confirmed"
    rate = snapshot.judged_per_second
    rated = "" if rate is None else f", {rate * 60:.0f} judged a minute"
    left = snapshot.seconds_left_at_most
    yield f"{_spend(snapshot)}{rated}{'' if not left else f', at most {wording.duration_text(left)} left'}"
    speedups = [(p.speedup, p.problem) for p in snapshot.problems if p.speedup is not None]
    best = max(speedups, default=None)
    yield "best speedup " + (wording.NOT_TIMED if best is None else f"{best[0]:.2f}x on {best[1]}")


def _spend(snapshot: Snapshot) -> str:
    """What was spent, each beside what the run's budget allows, or those of all problems together if that is less."""
    parts = []
    for name, spent in snapshot.spend.items():
        limit, of_run = snapshot.budget.get(name), snapshot.run_budget.get(name)
        # The problems' searches go on beside each other, so their wall times do not add up.
        together = None if limit is None or name == "wall_seconds" else limit * len(snapshot.problems)
        most = min((most for most in (together, of_run) if most is not None), default=None)
        if most is not None or (spent and name != "wall_seconds"):
            parts.append(f"{name.replace('_', ' ')} {spent or 0:,.6g}{'' if most is None else f' of {most:,.6g}'}")
    return ", ".join(parts) or "nothing spent"


def page(seen: Seen, *, width: int, height: int) -> RenderableType:
    """The screen: the run, as many problems as fit with those that go on first, and what happened last."""
    snapshot = seen.snapshot
    events = snapshot.events[-NUM_EVENTS_SHOWN:]
    room = max(3, height - OTHER_LINES - len(events))
    ordered = sorted(snapshot.problems, key=lambda problem: problem.end is not None)  # stable: as in the run
    rows = [tuple(map(wording.printable, _cells(problem, budget=snapshot.budget))) for problem in ordered[:room]]
    parts: list[RenderableType] = [_line(line) for line in lines_of(seen)]
    parts += [Text(), _table(rows, width=width)]
    if len(ordered) > room:
        parts.append(Text(f"and {len(ordered) - room} more", style="dim"))
    parts += [Text(), *(_line(f"{event.seconds:8.1f} s  {event.text}") for event in events)]
    return Group(*parts)


def _table(rows: list[tuple[str, ...]], *, width: int) -> Table:
    """Figures keep their room; where that of the rest is short, names lose their middle and statuses their end."""
    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:  # a row is a line, or the screen would not hold what was counted
        table.add_column(name, no_wrap=name != "statuses")  # one that may wrap is narrowed first
    names, *figures, statuses = (max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True))
    spare = width - sum(figures) - GAP * (len(COLUMNS) - 1)
    room = min(names, max(MIN_NAME, spare // 2, spare - statuses))
    for name, *cells in rows:
        table.add_row(_elided(name, room=room), *map(Text, cells[:-1]), _line(cells[-1]))
    return table


def _elided(name: str, *, room: int) -> Text:
    """In the middle, since names often begin alike and differ at their ends."""
    if len(name) > room:
        tail = (room - 1) // 2
        name = f"{name[: room - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{name[-tail:]}"
    return Text(name)


def _line(text: str) -> Text:
    return Text(wording.printable(text), no_wrap=True, overflow="ellipsis")


def _cells(problem: ProblemSnapshot, *, budget: dict[str, float | None]) -> Iterator[str]:
    yield problem.problem
    yield ("solved, " if problem.solved else "") + (problem.end or "going on")
    yield "" if not problem.solved else wording.NOT_TIMED if problem.speedup is None else f"{problem.speedup:.2f}x"
    for name in ("samples", "tokens", "judged"):
        limit = budget.get(name)
        yield f"{getattr(problem, name)}{'' if limit is None else f'/{limit:.0f}'}"
    yield wording.statuses_cell(problem.statuses)
