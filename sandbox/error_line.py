"""One line of an exception, for a message: its type and a line of what it says."""

from __future__ import annotations

_MAX_CHARACTERS = 300


def first_line(error: BaseException) -> str:
    """For libraries that explain below what they have said."""
    return _told(error, at=0)


def last_line(error: BaseException) -> str:
    """For errors that quote others: Python puts the cause first and what came of it last."""
    return _told(error, at=-1)


def _told(error: BaseException, *, at: int) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[at] if lines else ''}"[:_MAX_CHARACTERS]
