"""A clock for tests: it moves when it is told to."""

from __future__ import annotations


class Clock:
    """Starts at 100 seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
