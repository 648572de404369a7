"""What an engine's process does without vLLM: it leaves no orphan behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Starts a child in a session of its own, as vLLM does with its workers, and one in that.
ENGINE = """
import os, subprocess, sys, time
from agent.vllm_engine import children_of, guard_over
child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
while len(children_of(os.getpid())) < 2:
    time.sleep(0.01)
print(*children_of(os.getpid()), flush=True)
guard = guard_over(os.getpid())
print("guarded", flush=True)
time.sleep(600)
"""


def test_what_an_engine_started_ends_with_it_even_by_sigkill() -> None:
    engine = subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert engine.stdout is not None
    pids = [int(pid) for pid in engine.stdout.readline().split()]
    assert engine.stdout.readline() == "guarded\n"
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    engine.stdout.close()
    deadline = time.monotonic() + 60.0
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A process that has ended, and that nobody has waited for, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
