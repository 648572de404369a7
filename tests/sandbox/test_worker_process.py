"""Supervision of a worker: answers, deadlines, deaths; with scripted workers that have no GPU."""

from __future__ import annotations

import os
import signal
import subprocess
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


# Starts a worker that stands still, tells its number, and is killed before it can let it go on.
PARENT = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.worker_process import WorkerProcess
served = "import sys; sys.path.insert(0, {str(ROOT)!r})"
served += "; from sandbox.worker_main import serve; serve(lambda late: None)"
worker = WorkerProcess([sys.executable, "-c", served], environment=lambda home: dict(HOME=home))
worker.call(dict(do="load"), deadline_seconds=60.0)
worker.pause()
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_stands_still_ends_with_its_judge() -> None:
    started = subprocess.run([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, timeout=120.0)
    assert started.returncode == -signal.SIGKILL
    number, deadline = int(started.stdout), time.monotonic() + 30.0
    while alive(number):
        assert time.monotonic() < deadline, "it stands still for ever"
        time.sleep(0.05)


def alive(number: int) -> bool:
    """Whether that process is there and no zombie, which nobody here may reap."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
