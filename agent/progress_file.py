"""Keeps `progress.json` in the run folder up to date, for whoever watches the run from another machine.

A file that is replaced as a whole can be read over any network file system; the ledger cannot be, because processes
that have it open share memory (docs/watch.md). Decides nothing. A thread of its own writes, so that a slow disk holds
no run up; what cannot be written is logged and left out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent.closed_output import unless_closed
from agent.events import Event
from agent.progress import Display
from agent.run_folder import RunFolder, RunFolderError
from agent.snapshot import Standings

WRITE_SECONDS = 1.0  # at least between two writes
ALIVE_SECONDS = 10.0  # at most between two writes: a watcher that sees none for longer knows that the run is gone

log = logging.getLogger(__name__)


class ProgressFile:
    """Shows events on `display`, and keeps the file beside."""

    def __init__(self, folder: RunFolder, *, display: Display, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._display = display
        self._standings = Standings(clock=clock)
        self._changed = threading.Condition()
        self._news = False
        self._begun = False  # before its first event a run may still be refused, and the file is not its to write
        self._failed = False  # the last write; what fails again and again is told once
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="progress-file", daemon=True)

    def show(self, event: Event) -> None:
        with self._changed:
            self._standings.add(event)
            self._news = self._begun = True
            self._changed.notify()
        with unless_closed(self._folder.report):
            self._display.show(event)

    def __enter__(self) -> Self:
        self._display.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last state is on file when this returns."""
        self._leaving.set()
        with self._changed:
            self._standings.stop()
            self._changed.notify()
        self._thread.join()
        if self._begun:
            self._write()
        self._display.__exit__(kind, error, trace)

    def _keep_writing(self) -> None:
        while not self._leaving.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._news or self._leaving.is_set(), timeout=ALIVE_SECONDS)
            if self._begun and not self._leaving.is_set():
                self._write()
                self._leaving.wait(WRITE_SECONDS)

    def _write(self) -> None:
        with self._changed:
            self._news = False
            snapshot = self._standings.snapshot()
        try:
            self._folder.write_progress(snapshot.model_dump_json())
        except RunFolderError as error:
            if not self._failed:
                log.warning("progress of the run cannot be watched: %s", error)
            self._failed = True
        else:
            self._failed = False
