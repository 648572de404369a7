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
    bitten, now = threading.Event(), [0.0]
    dog = Watchdog(bitten.set, clock=lambda: now[0])
    dog.allow(0.5)
    for _ in range(3):
        with dog.running():
            now[0] += 0.1
        now[0] += 0.3  # ours
    with dog.running():
        now[0] += 0.15
        assert not bitten.wait(0.4), "pauses are counted"
        now[0] += 0.1  # 0.55 in all
        assert bitten.wait(5.0), "parts are not counted together"


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


def test_what_fails_soon_after_its_time_fails_as_it_does() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set, grace_seconds=30.0)
    dog.allow(0.05)
    with pytest.raises(KeyError), dog.running():
        time.sleep(0.1)
        raise KeyError
    assert not bitten.is_set()


def test_what_ends_well_after_its_time_is_late() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set, grace_seconds=30.0)
    dog.allow(0.05)
    with dog.running():
        time.sleep(0.1)
        assert not bitten.is_set()
    assert bitten.is_set()


def test_what_neither_fails_nor_ends_is_late_when_the_grace_is_over() -> None:
    bitten = threading.Event()
    dog = Watchdog(bitten.set, grace_seconds=0.1)
    dog.allow(0.05)
    with dog.running():
        start = time.monotonic()
        assert bitten.wait(5.0)
        assert time.monotonic() - start > 0.12
