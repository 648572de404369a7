"""Lets a run outlive whoever reads its standard output: a pager that is left, a `head` that has enough, a full disk.

Knows nothing of what is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def unless_closed(report: Path) -> Iterator[None]:
    """Once standard output takes nothing more, what is shown in here goes nowhere, and so does all that follows.

    That is told on standard error, with the `report` in which the same will be found.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        why = "was closed" if isinstance(error, BrokenPipeError) else f"cannot be written: {error.strerror}"
        _lead_nowhere(sys.stdout)
        try:
            print(f"kernelloop: standard output {why}; what comes of the run will be in {report}", file=sys.stderr)
        except OSError:
            _lead_nowhere(sys.stderr)


def _lead_nowhere(stream: TextIO) -> None:
    """By its descriptor: what the stream still holds back would fail again when it is flushed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
