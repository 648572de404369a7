from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from sandbox.syntax import parse, parse_quietly


class Garbage:
    """Has to be collected, and runs Python then, at which another thread gets its turn."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(range(100))


@pytest.fixture
def threads_take_turns_often() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_threads_do_not_disturb_each_other(threads_take_turns_often: None) -> None:
    """`ast.parse` itself fails here some ten times a second on CPython 3.11."""
    filters = list(warnings.filters)
    source = "x = [" + "a + b * c, " * 400 + "]"
    end = time.monotonic() + 1.5
    done: list[int] = []
    failed: list[SystemError] = []

    def work() -> None:
        while time.monotonic() < end:
            try:
                done.append(len(parse(source).body))
            except SystemError as error:
                failed.append(error)
            Garbage()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert set(done) == {1}
    assert warnings.filters == filters


def test_what_does_not_parse_is_none_and_what_only_warns_is_parsed() -> None:
    for text in ("def", "x = '\0'", "(" * 100_000, "+" * 100_000 + "1"):
        assert parse_quietly(text) is None
    assert parse_quietly(r"x = '\d'") is not None
    with pytest.raises(SyntaxError):
        parse("def")
