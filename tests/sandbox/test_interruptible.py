"""Work in a thread ends when it is told to, in Python and while the sandbox starts, and never after it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self

import pytest

from sandbox import problem_check
from sandbox.interruptible import Interrupted, Interruptible
from sandbox.settings import JudgeSettings
from sandbox.tracer import ProblemFailed
from sandbox.types import Problem
from sandbox.zygote import Zygote


def for_ever(started: threading.Event | None = None) -> None:
    if started is not None:
        started.set()
    while True:
        time.sleep(0.001)


@contextmanager
def in_a_thread(work: Callable[[], Any], running: Interruptible) -> Iterator[Future[Any]]:
    """Work of a thread that goes on with other things afterwards, as one of an executor does."""
    done: Future[Any] = Future()

    def serve() -> None:
        try:
            done.set_result(running.call(work))
        except Interrupted as error:
            done.set_exception(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield done
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_work_that_never_ends_is_ended_and_none_may_follow() -> None:
    running, started = Interruptible(), threading.Event()
    with in_a_thread(lambda: for_ever(started), running) as done:
        assert started.wait(timeout=60)
        running.end()
        assert running.join(seconds=60)
    with pytest.raises(Interrupted):
        done.result()
    with pytest.raises(Interrupted):
        running.call(lambda: None)


def test_an_interrupt_never_reaches_what_the_thread_does_afterwards() -> None:
    for _ in range(200):
        running, started = Interruptible(), threading.Event()
        with in_a_thread(started.set, running) as done:
            assert started.wait(timeout=60)
            running.end()
        assert done.exception() is None or isinstance(done.exception(), Interrupted)


def test_an_interrupt_that_gets_lost_is_sent_again_and_none_disturbs_what_is_cleaned_up() -> None:
    running, started = Interruptible(), threading.Event()
    num_lost = num_cleaned = 0

    def clean_up() -> None:
        nonlocal num_cleaned
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            try:
                raise FileNotFoundError
            except FileNotFoundError:
                time.sleep(0.001)
        num_cleaned += 1

    def lose_one() -> None:
        nonlocal num_lost
        try:
            for_ever(started)
        except Interrupted:
            num_lost += 1
        try:
            for_ever()
        finally:
            clean_up()

    with in_a_thread(lose_one, running) as done:
        assert started.wait(timeout=60)
        running.end()
        assert running.join(seconds=60)
    assert isinstance(done.exception(), Interrupted) and (num_lost, num_cleaned) == (1, 1)


def test_what_waits_in_c_is_not_waited_for_without_end() -> None:
    running, told, started = Interruptible(), threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        told.wait(timeout=60)

    with in_a_thread(wait, running):
        assert started.wait(timeout=60)
        running.end()
        assert not running.join(seconds=0.05)
        told.set()
        assert running.join(seconds=60)


def test_a_sandbox_that_is_starting_is_given_up_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Zygote] = []

    def start(self: Zygote) -> Any:
        started.append(self)
        return begin(self)

    begin = Zygote._start
    monkeypatch.setattr(Zygote, "_start", start)
    running = Interruptible()
    with in_a_thread(lambda: Zygote(("describe", "trace"), isolation_level="off"), running) as done:
        while not started or not hasattr(started[0], "_process"):
            time.sleep(0.01)
        asked = time.monotonic()
        running.end()
        assert running.join(seconds=60)
        seconds = time.monotonic() - asked
    assert isinstance(done.exception(), Interrupted)
    assert started[0]._process.poll() is not None and not started[0]._root.exists()
    assert seconds < 1.5, "a warm process that does not look at its pipe is not waited for"


class SlowTracer:
    """Fails on the problem `bad`, and describes every other without end."""

    def __init__(self, _: JudgeSettings) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def spec(self, problem: Problem) -> Mapping[str, Any]:
        if problem.id == "bad":
            raise ProblemFailed("cannot be described")
        for_ever()
        raise AssertionError("not reached")


def test_checks_that_nobody_waits_for_any_more_end_what_is_being_described(
    monkeypatch: pytest.MonkeyPatch, settings: JudgeSettings
) -> None:
    monkeypatch.setattr(problem_check, "Tracer", SlowTracer)
    judge: Any = None  # which no problem reaches
    checks: Any = problem_check.check_problems(
        [Problem(id=name, source="", origin="test") for name in ("bad", "slow")],
        judge=judge, settings=settings, num_threads=1, precision="ieee",
    )  # fmt: skip
    assert next(checks).reason == "cannot be described"
    checks.close()
