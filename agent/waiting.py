"""Tells who waits that something goes on and for how long, and that an interrupt was heard. All on standard error.

Knows nothing of what is waited for.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from agent.progress import PLAIN_SECONDS, REFRESHES_PER_SECOND

MOMENT_SECONDS = 0.5  # what ends sooner after an interrupt needs no word about it


class Waiting:
    """Around a wait during which nothing else is shown: in place on a terminal, elsewhere a line every few seconds."""

    def __init__(self, what: str) -> None:
        self._stage = (what, time.monotonic())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell_plainly, name="kernelloop waiting", daemon=True)
        console = Console(stderr=True)
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                get_renderable=lambda: Text(self._text()), console=console, transient=True,
                refresh_per_second=REFRESHES_PER_SECOND, redirect_stdout=False,
            )  # fmt: skip

    def tell(self, what: str) -> None:
        """What goes on from now on. May be called in any thread."""
        self._stage = (what, time.monotonic())

    def _text(self) -> str:
        what, since = self._stage
        return f"{what} ... {time.monotonic() - since:.0f} s"

    def _tell_plainly(self) -> None:
        while not self._ended.wait(PLAIN_SECONDS):
            print(self._text(), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._ended.set()
            self._thread.join()


@contextlib.contextmanager
def interrupts_told() -> Iterator[None]:
    """Says of an interrupt that it was heard, if what it ends takes longer than a moment. What it does stays as it was.

    In a coroutine it goes around what is awaited, not around the loop, which handles interrupts in its own way.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # whoever started this process has it ignore interrupts
        yield
        return
    note = threading.Timer(MOMENT_SECONDS, print, ("kernelloop: stopping ...",), {"file": sys.stderr, "flush": True})
    note.daemon = True

    def told(number: int, frame: FrameType | None) -> None:
        if not note.is_alive() and not note.finished.is_set():
            note.start()
        before(number, frame)

    signal.signal(signal.SIGINT, told)
    try:
        yield
    finally:
        note.cancel()
        signal.signal(signal.SIGINT, before)
