"""Who waits is told what goes on, and that an interrupt was heard; never on standard output."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from agent import waiting
from agent.waiting import Waiting, interrupts_told


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_a_terminal_a_line_tells_the_stage_every_so_often(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PLAIN_SECONDS", 0.01)
    told = ""

    def says(words: str) -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return words in told

    with Waiting("tracing") as shown:
        until(lambda: says("tracing ... 0 s\n"))
        shown.tell("judging")
        until(lambda: says("judging ... 0 s\n"))
    capfd.readouterr()
    time.sleep(0.03)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_it_is_drawn_and_gone_afterwards(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which has rich take anything for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with Waiting("tracing"):
        pass
    shown = capfd.readouterr()
    assert "tracing ... 0 s" in shown.err and shown.err.endswith("\x1b[2K") and shown.out == ""


async def waits(*, ending_seconds: float) -> None:
    with interrupts_told():
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(ending_seconds)


@pytest.mark.parametrize(("ending_seconds", "told"), [(0.2, "kernelloop: stopping ...\n"), (0.0, "")])
def test_an_interrupt_is_told_where_ending_takes_longer_than_a_moment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ending_seconds: float, told: str
) -> None:
    monkeypatch.setattr(waiting, "MOMENT_SECONDS", ending_seconds / 10 or 60.0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(waits(ending_seconds=ending_seconds))
    assert capfd.readouterr().err == told
    with pytest.raises(KeyboardInterrupt), interrupts_told():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
