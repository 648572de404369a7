"""How a run ends for whoever started it: the signals that stop it, the summary, the way to go on, the exit code.

Knows nothing of how the run is carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console

from agent import report
from agent.closed_output import unless_closed
from agent.events import Outcome
from agent.ledger import LedgerError
from agent.progress import PLAIN_WIDTH
from agent.run_folder import RunFolder, RunFolderError
from agent.run_record import RunRecord, read_run
from sandbox import strict_json

# An interrupt that comes sooner after the first is the same one: a key held down, or sent to a process and its group.
SAME_INTERRUPT_SECONDS = 1.0


class Stoppable(Protocol):
    """A run or an experiment."""

    def stop(self) -> None:
        """Soon, to be resumed. Called in the loop's thread."""
        ...


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[Callable[[], None]]:
    """What batch systems send ends a start as Ctrl-C does, until `stop_on_signals`. Gives what to call once something
    has been started that takes the signal for itself, as Ray does."""
    before = signal.getsignal(signal.SIGTERM)

    def take() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))

    take()
    try:
        yield take
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_on_signals(running: Stoppable) -> None:
    """The first interrupt ends the run in good order; a later SIGINT does what interrupts do.

    SIGTERM never does more than ask: `timeout` and batch systems send it twice at once.
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            return
        stopping = True
        running.stop()
        loop.call_later(SAME_INTERRUPT_SECONDS, loop.remove_signal_handler, signal.SIGINT)
        print("kernelloop: stopping, some seconds; what is in flight is given up", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def conclude(folder: RunFolder, *, outcome: Outcome, error: str | None, as_json: bool) -> int:
    """Writes the report, shows the summary, says why a run ended that is not done, and gives the exit code.

    A report that cannot be written is told last: what stopped the run matters more.
    """
    record, trouble = None, None
    try:
        record = read_run(folder)
        folder.write_report(report.report_text(record))
    except (LedgerError, RunFolderError) as unwritten:
        trouble = unwritten
    if record is not None:
        with unless_closed(folder.report):
            show_summary(record, outcome=outcome, error=error, as_json=as_json)
    code = told_outcome(folder, outcome=outcome, error=error)
    if trouble is None:
        return code
    print(f"kernelloop: {' '.join(str(trouble).split())}", file=sys.stderr)
    return code or 1


def show_summary(record: RunRecord, *, outcome: Outcome, error: str | None, as_json: bool) -> None:
    if as_json:
        print(strict_json.dumps(report.summary_json(record, outcome=outcome, error=error)))
        return
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if (table := report.summary_table(record)).row_count:
        console.print(table)
    for line in ("", *report.closing_lines(record)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def told_outcome(folder: RunFolder, *, outcome: Outcome, error: str | None) -> int:
    """The exit code; what is not done says why, and how to go on."""
    match outcome:
        case Outcome.COMPLETED:
            return 0
        case Outcome.STOPPED:
            return told_to_resume(folder, reason="interrupted")
        case Outcome.FAILED:
            return told_to_resume(folder, reason=error or "the run failed")
        case Outcome.REFUSED:
            told_to_resume(folder, reason=f"{error}; mend `sampler` in {folder.config}")
            return 2


def told_to_resume(folder: RunFolder, *, reason: str) -> int:
    """The exit code for a run that was not the user's to end."""
    print(f"kernelloop: {reason}; to go on: kernelloop resume {folder.root}", file=sys.stderr)
    return 1
