"""Supervision of a worker: answers, deadlines, deaths; with scripted workers that have no GPU."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.worker_process import WorkerEnded, WorkerLate, WorkerProcess
from sandbox.zygote import SandboxError

ROOT = Path(__file__).parents[2]
HEAD = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from sandbox.worker_process import read_message, write_message
out = os.fdopen(os.dup(1), "wb")
"""
ECHO = (
    HEAD
    + "while (m := read_message(sys.stdin.buffer)): write_message(out, {'body': m[0], 'sizes': [len(b) for b in m[1]]})"
)


@contextmanager
def worker(script: str) -> Iterator[WorkerProcess]:
    process = WorkerProcess([sys.executable, "-c", script], environment=lambda home: {"HOME": home})
    try:
        yield process
    finally:
        process.close()


def test_requests_of_any_size_are_answered_in_turn() -> None:
    with worker(ECHO) as echo:
        for size in (0, 1, 10 << 20):
            answer = echo.call({"n": size}, [b"x" * size], deadline_seconds=30.0)
            assert answer == {"body": {"n": size}, "sizes": [size]}


def test_a_worker_that_is_late_is_killed() -> None:
    with worker(HEAD + "time.sleep(60)") as slow:
        start = time.monotonic()
        with pytest.raises(WorkerLate):
            slow.call({}, [b"x" * (10 << 20)], deadline_seconds=0.3)  # nor may a full pipe hold the judge
        assert time.monotonic() - start < 30.0  # it sleeps for a minute
        with pytest.raises(ProcessLookupError):
            os.kill(slow.pid, 0)


def test_a_worker_that_crashes_tells_its_signal_and_last_words() -> None:
    script = HEAD + "read_message(sys.stdin.buffer); print('last words', file=sys.stderr, flush=True); os.abort()"
    with worker(script) as dying:
        with pytest.raises(WorkerEnded, match="last words") as caught:
            dying.call({}, deadline_seconds=30.0)
        assert caught.value.signal == signal.SIGABRT and not caught.value.killed_from_outside


def test_a_worker_killed_by_others_is_known_as_such() -> None:
    with worker(HEAD + "time.sleep(60)") as victim:
        os.kill(victim.pid, signal.SIGKILL)
        with pytest.raises(WorkerEnded) as caught:
            victim.call({}, deadline_seconds=30.0)
        assert caught.value.killed_from_outside


def test_an_answer_that_is_no_message_is_our_fault() -> None:
    script = HEAD + "out.write((5).to_bytes(8, 'big') + b'hello'); out.flush(); time.sleep(60)"
    with worker(script) as babbling, pytest.raises(SandboxError, match="not a message"):
        babbling.call({}, deadline_seconds=30.0)


def test_its_folder_goes_with_it(tmp_path: Path) -> None:
    with worker(HEAD + f"open({str(tmp_path / 'home')!r}, 'w').write(os.environ['HOME']); time.sleep(60)") as process:
        deadline = time.monotonic() + 30.0
        while not (tmp_path / "home").exists() or not (tmp_path / "home").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        home = Path((tmp_path / "home").read_text())
        assert home.is_dir()
        process.close()
        assert not home.exists()
