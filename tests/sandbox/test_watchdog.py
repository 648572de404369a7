"""The time of a candidate's own work is bounded in all, and only that."""

from __future__ import annotations

import threading
import time

import pytest

from sandbox.watchdog import Watchdog


def test_it_bites_while_the_work_is_still_running() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set)
    dog.allow(0.1)
    with dog.running():
        assert bitten.wait(5.0)


def test_work_in_several_parts_is_counted_together_and_pauses_are_not() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set)
    dog.allow(0.5)
    for _ in range(3):
        with dog.running():
            time.sleep(0.05)
        time.sleep(0.3)  # ours
    assert not bitten.is_set()
    start = time.monotonic()
    with dog.running():
        assert bitten.wait(5.0)
    assert time.monotonic() - start < 0.45  # what is left of the half second


def test_without_a_limit_nothing_is_counted() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set)
    dog.allow(0.01)
    dog.allow(None)
    with dog.running():
        assert not bitten.wait(0.1)


def test_what_fails_is_counted_no_further() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set)
    dog.allow(0.2)
    with pytest.raises(KeyError), dog.running():
        raise KeyError
    assert not bitten.wait(0.4)
