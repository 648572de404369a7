"""A benchmark that is cut off, by its budget, by a signal or by an exception, still tells and writes what it found."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_SCRIPT = """
import sys, time
from pathlib import Path
from tests.benchmarks import budget
budget.PROGRESS_SECONDS, budget.WRITE_SECONDS = 0.2, 0.2
class Counting:
    def __init__(self):
        self.count = 0
    def work(self):
        while True:
            self.count += 1
            print("counted", flush=True)
            {step}
    def progress(self):
        return f"{self.count} counted"
    def record(self):
        return {"count": self.count}
    def show(self, record):
        print("table", record["count"], record["ended"])
    def close(self):
        time.sleep(60)
limit = budget.Budget(float(sys.argv[1]))
budget.run_within(limit, Counting(), out=Path(sys.argv[2]))
"""


def started(step: str, seconds: float, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SCRIPT.replace("{step}", step), str(seconds), str(out)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outcome(child: subprocess.Popen[str], out: Path) -> tuple[int, str, str, dict[str, Any]]:
    output, errors = child.communicate(timeout=120)
    return child.returncode, output, errors, json.loads(out.read_text())


def test_work_that_never_ends_is_left_when_the_budget_is_over(tmp_path: Path) -> None:
    start = time.monotonic()
    code, output, errors, record = outcome(started("time.sleep(60)", 4.0, tmp_path / "o"), tmp_path / "o")
    assert time.monotonic() - start < 30.0  # the budget, and what starting Python takes; closing would take a minute
    assert code == 0 and record["ended"] == "budget" and record["count"] == 1
    assert "table 1 budget" in output and "1 counted" in errors


def test_a_signal_ends_it_at_once_with_its_tables(tmp_path: Path) -> None:
    child = started("time.sleep(60)", 600.0, tmp_path / "o")
    assert child.stdout is not None and child.stdout.readline() == "counted\n"
    start = time.monotonic()
    child.send_signal(signal.SIGTERM)
    code, output, _, record = outcome(child, tmp_path / "o")
    assert time.monotonic() - start < 30.0  # closing would take a minute
    assert code == 128 + signal.SIGTERM and record["ended"] == "SIGTERM" and "table 1 SIGTERM" in output


def test_an_exception_loses_nothing_and_fails(tmp_path: Path) -> None:
    code, output, errors, record = outcome(started("1 / 0", 600.0, tmp_path / "o"), tmp_path / "o")
    assert code == 1 and record["ended"] == "error" and "table 1 error" in output and "ZeroDivisionError" in errors


def test_what_was_found_is_written_on_the_way(tmp_path: Path) -> None:
    child = started("time.sleep(0.01)", 600.0, tmp_path / "o")
    try:
        for _ in range(600):
            if (tmp_path / "o").exists():
                break
            time.sleep(0.1)
        record = json.loads((tmp_path / "o").read_text())
        assert record["ended"] is None and record["count"] > 0
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("ended", ["budget", "SIGTERM"])
def test_throughput_that_is_cut_off_gives_a_rate_over_what_was_judged(tmp_path: Path, ended: str) -> None:
    out = tmp_path / "t.json"
    child = subprocess.Popen(
        [sys.executable, "tests/benchmarks/throughput.py", "--mode", "interpret", "--candidates", "1000", "--tracers",
         "1", "--serial", "0", "--budget-seconds", "14" if ended == "budget" else "600", "--out", str(out)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if ended == "SIGTERM":
        assert child.stderr is not None
        while " judged, " not in child.stderr.readline():  # its first line of progress
            pass
        child.send_signal(signal.SIGTERM)
    code, output, _, record = outcome(child, out)
    main = record["main"]
    assert code == (0 if ended == "budget" else 128 + signal.SIGTERM) and record["ended"] == ended
    assert main["cut_off"] is (main["of"] > 0) and main["judged"] < 1000
    assert "candidates (" in output
    if main["judged"]:
        assert main["per_minute"] == pytest.approx(60 * main["judged"] / main["wall_seconds"])
