"""Every program under `programs/` must get a status that its first line names, from a layer that it names, and none may
reach outside its sandbox.

Runs without a GPU: tracing and interpreting. `README.md` says what the first line means.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sandbox.judge import InterpretJudge
from sandbox.settings import JudgeSettings
from sandbox.types import Verdict
from tests.adversarial.layers import CHEATS, HERE, Program, chosen, layer_of, read_cheat
from tests.adversarial.traced_ahead import TracedAhead
from tests.judge_settings import LIMITS, SECRET, judge_settings


def settings_with(wall_seconds: float | None) -> JudgeSettings:
    wall_seconds = wall_seconds or 60.0
    limits = dataclasses.replace(LIMITS, wall_seconds=wall_seconds, file_bytes=16 << 20, num_processes=64)
    return judge_settings(trace_limits=limits, interpret_limits=limits)


class Bench:
    """One warm tracer and judge for all programs; the deadline of a program is set for it alone."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.traced = TracedAhead([read_cheat(path) for path in paths], settings=settings_with)
        self.judge = InterpretJudge(settings_with(None), secret=SECRET)

    def verdict(self, program: Program) -> Verdict:
        traced = self.traced[program.path]
        self.judge._settings = settings_with(program.wall_seconds)
        return self.judge.judge(program.problem, program.candidate, traced)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(chosen(request))
    yield bench
    bench.traced.close()
    bench.judge.close()


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_program_gets_its_status_from_its_layer(bench: Bench, path: Path) -> None:
    program = read_cheat(path)
    verdict = bench.verdict(program)
    assert verdict.status in program.statuses, verdict.feedback
    assert program.layers is None or layer_of(verdict) in program.layers, verdict.feedback


def test_no_program_leaves_a_process_behind(bench: Bench) -> None:
    """After all of the above the warm processes have no children, and nothing of theirs was adopted by us."""
    zygote = bench.traced.tracer._zygote
    assert zygote is not None
    assert Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text() == ""
    mine = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    warm = {str(z.pid) for z in (zygote, bench.judge._zygote) if z is not None}
    assert not {pid for pid in mine if "candidate" in _command(pid)} - warm


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_every_program_answers_a_way_of_cheating() -> None:
    """The table of README.md names each program, and none that is not there."""
    table = HERE.joinpath("README.md").read_text().split("## Honest programs")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {path.stem for path in CHEATS}


def test_there_are_enough_programs() -> None:
    assert len(CHEATS) >= 150
