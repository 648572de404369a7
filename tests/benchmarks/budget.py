"""Runs a benchmark within a hard limit of wall time: it always says what it found, and writes it down on the way.

The work runs in a thread; the main one tells its progress, writes the record, and ends the process when the time is
over, at SIGTERM or SIGINT, or after an exception, whatever the work is waiting for. Knows nothing of what is measured.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

PROGRESS_SECONDS, WRITE_SECONDS = 5.0, 10.0
_POLL_SECONDS = 0.1
_REPORT_SECONDS = 3.0  # kept for the tables and the record
_CLOSE_SECONDS = 1.5  # and of these for ending other processes, which end with this one in any case
_STARTED = time.monotonic()


class Budget:
    """The wall time of the whole script, from its imports on."""

    def __init__(self, seconds: float) -> None:
        self.started = _STARTED
        self.work_until = self.started + seconds - _REPORT_SECONDS
        self.stopped_by: str | None = None  # the signal's name

    @property
    def spent_seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_seconds(self) -> float:
        """For work; 0 when it must stop."""
        return 0.0 if self.stopped_by is not None else max(self.work_until - time.monotonic(), 0.0)

    def until(self, share: float) -> float:
        """The time of `time.monotonic` when `share` of what is left for work is over."""
        return time.monotonic() + share * self.left_seconds


class Benchmark(Protocol):
    """What is run. All but `work` are called from another thread while it works."""

    def work(self) -> None:
        """Measures. It stops by itself when the budget has nothing left, but need not: it is left where it stands."""

    def progress(self) -> str:
        """One line."""

    def record(self) -> dict[str, Any]:
        """What has been found so far, plain."""

    def show(self, record: dict[str, Any]) -> None:
        """Prints the tables."""

    def close(self) -> None:
        """Ends the processes that it started."""


def run_within(budget: Budget, benchmark: Benchmark, *, out: Path | None) -> NoReturn:
    """Ends this process: with 0 where the work was done or the time is over, 1 after an exception, 128 and the signal's
    number after one. `ended` in the record says which."""
    errors: list[BaseException] = []
    thread = threading.Thread(target=_kept(benchmark.work, errors), daemon=True)
    codes: list[int] = []

    def stop(number: int, _frame: object) -> None:  # takes no lock: the main thread may hold any
        budget.stopped_by = signal.Signals(number).name
        codes.append(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    thread.start()
    told = written = time.monotonic()
    while thread.is_alive() and budget.left_seconds > 0:
        thread.join(timeout=_POLL_SECONDS)
        now = time.monotonic()
        if now - told >= PROGRESS_SECONDS:
            told = now
            print(f"{budget.spent_seconds:6.0f} s: {benchmark.progress()}", file=sys.stderr, flush=True)
        if out is not None and now - written >= WRITE_SECONDS:
            written = now
            _write(out, {**benchmark.record(), "ended": None})
    ended = "done"
    if errors:
        ended, codes = "error", codes or [1]
        traceback.print_exception(errors[0])
    elif thread.is_alive() or budget.left_seconds == 0:
        ended = budget.stopped_by or "budget"
    _report(budget, benchmark, ended, out)
    closing = threading.Thread(target=benchmark.close, daemon=True)
    closing.start()
    closing.join(timeout=_CLOSE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(codes[0] if codes else 0)  # the work may wait for what never comes


def _report(budget: Budget, benchmark: Benchmark, ended: str, out: Path | None) -> None:
    """Writes the record first: a table that cannot be printed loses nothing."""
    try:
        record = {**benchmark.record(), "ended": ended, "seconds": budget.spent_seconds}
        if out is not None:
            _write(out, record)
        benchmark.show(record)
    except Exception:  # noqa: BLE001  the outermost frame: the process is about to be ended, and this is its last word
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    print(f"ended after {budget.spent_seconds:.1f} s: {ended}", flush=True)


def _kept(work: Callable[[], None], errors: list[BaseException]) -> Callable[[], None]:
    """`work`, with what it raises put into `errors`."""

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  a thread's outermost frame
            errors.append(error)

    return run


def _write(out: Path, record: dict[str, Any]) -> None:
    """In one go, so that being killed on the way leaves the record before."""
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps(record, indent=1))
    partial.replace(out)
