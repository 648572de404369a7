"""Both corpora on a GPU: traced on many cores, replayed and timed on one device.

Needs a GPU, nothing else that `sandbox` does not need. Without one everything here is skipped. Each verdict is made
once, by the first test that asks; a failure names the program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from sandbox.gpu_judge import GpuJudge
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Status, Verdict
from tests.adversarial.layers import CHEATS, HONEST, Program, chosen, layer_of, read_cheat, read_honest
from tests.judge_settings import LIMITS, SECRET, judge_settings

NUM_TRACERS = 12

pytestmark = pytest.mark.gpu


def settings_with(*, wall_seconds: float = 60.0, precision: tuple[str, ...] = ("ieee",)) -> JudgeSettings:
    limits = dataclasses.replace(LIMITS, wall_seconds=wall_seconds, file_bytes=16 << 20, num_processes=64)
    return judge_settings(
        mode="replay", trace_limits=limits, replay_seconds=5.0, precision=precision, timing_rounds=8,
        timing_seconds=0.3,
    )  # fmt: skip


def _traced(programs: Sequence[Program]) -> list[Traced]:
    """What tracing gives for each, in order, from tracers that take turns. The slow ones are started first."""
    idle: SimpleQueue[Tracer] = SimpleQueue()
    tracers = [Tracer(settings_with()) for _ in range(min(NUM_TRACERS, len(programs)))]
    for tracer in tracers:
        idle.put(tracer)

    def one(program: Program) -> Traced:
        tracer = idle.get()
        try:
            tracer._settings = settings_with()
            tracer.spec(program.problem)
            tracer._settings = settings_with(wall_seconds=program.wall_seconds or 60.0)
            return tracer.trace(program.problem, program.candidate)
        finally:
            idle.put(tracer)

    order = sorted(range(len(programs)), key=lambda i: -(programs[i].wall_seconds or 0.0))
    try:
        with ThreadPoolExecutor(len(tracers)) as pool:
            found = dict(zip(order, pool.map(one, [programs[i] for i in order]), strict=True))
    finally:
        for tracer in tracers:
            tracer.close()
    return [found[i] for i in range(len(programs))]


def _verdicts(programs: Sequence[Program]) -> dict[Path, Verdict | Exception]:
    """The verdict on each; an exception that is ours stands in its place, so that one does not hide the others."""
    found: dict[Path, Verdict | Exception] = {}
    by_precision: dict[tuple[str, ...], list[tuple[Program, Traced]]] = {}
    for program, traced in zip(programs, _traced(programs), strict=True):
        by_precision.setdefault(program.precision, []).append((program, traced))
    for precision, group in by_precision.items():
        judge = GpuJudge(settings_with(precision=precision), device=0, secret=SECRET)
        try:
            for program, traced in group:
                try:
                    found[program.path] = judge.judge(program.problem, program.candidate, traced)
                except Exception as error:  # noqa: BLE001  told by the test of this program
                    found[program.path] = error
        finally:
            judge.close()
    return found


@pytest.fixture(scope="module")
def cheats(request: pytest.FixtureRequest) -> Iterator[dict[Path, Verdict | Exception]]:
    yield _verdicts([read_cheat(path) for path in chosen(request) if path in CHEATS])


@pytest.fixture(scope="module")
def honest(request: pytest.FixtureRequest) -> Iterator[dict[Path, Verdict | Exception]]:
    yield _verdicts([read_honest(path) for path in chosen(request) if path in HONEST])


def _verdict(found: dict[Path, Verdict | Exception], path: Path) -> Verdict:
    told = found[path]
    if isinstance(told, Exception):
        raise told
    return told


@pytest.mark.parametrize("path", HONEST, ids=lambda p: p.stem)
def test_honest_program_passes_and_is_timed(honest: dict[Path, Verdict | Exception], path: Path) -> None:
    told = _verdict(honest, path)
    assert told.status is Status.PASSED, told.feedback
    assert told.labels[0] == "triton", told.labels
    assert told.performance is not None or "not_timed" in told.labels


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_cheat_gets_its_status(cheats: dict[Path, Verdict | Exception], path: Path) -> None:
    program, told = read_cheat(path), _verdict(cheats, path)
    assert told.status in (program.gpu or program.statuses), told.feedback
    if program.gpu is None and program.layers is not None:
        assert layer_of(told) in program.layers, told.feedback
