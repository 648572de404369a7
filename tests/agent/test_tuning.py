"""Tuning in a run with scripted timings: what it costs, what it finds, what is recorded, and that a run resumes."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.controller import RunPlan
from agent.events import Event, Outcome, Proposed, Sampled, Unsampled
from agent.ledger import Ledger
from agent.report import report_text, summary_json
from agent.run_record import read_run
from agent.tuning import NO_KNOBS, NO_POINT
from agent.tuning_points import Told, choose_point
from sandbox.knobs import Point
from sandbox.launch_knobs import find_space
from sandbox.types import Budget, Candidate, Operator, Status, Verdict
from tests.agent.scripted_run import Bench, ScriptedPool, ScriptedSampler, plan_of, repair, verdict_on

POINTS = 12
SOURCE = """\
import triton
import triton.language as tl

@triton.jit
def copy(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)

class ModelNew:
    def forward(self, x, y):
        copy[(triton.cdiv(x.numel(), 256),)](x, y, x.numel(), BLOCK=256)
"""
SPACE = find_space(SOURCE)
assert SPACE is not None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "run").mkdir()
    bench = Bench(tmp_path / "run")
    bench.folder.write_config("judge: {mode: replay}\n")
    yield bench


def speedup_at(point: Point) -> float:
    """Best at blocks of 2048 and 8 warps; a factor of two off costs a tenth each."""
    off = abs(math.log2(point["copy.BLOCK"] / 2048)) + abs(math.log2(point["copy.num_warps"] / 8))
    return float(2.0 * 0.9**off)


def judge(candidate: Candidate) -> Verdict:
    """Small blocks do not launch."""
    point = SPACE.point_of(candidate.source) if SPACE is not None else None
    assert point is not None, candidate.source
    if point["copy.BLOCK"] < 64:
        return verdict_on(candidate, status=Status.LAUNCH_ERROR)
    return verdict_on(candidate, status=Status.PASSED, speedup=speedup_at(point))


def sampler() -> ScriptedSampler:
    return ScriptedSampler(lambda _: f"```python\n{SOURCE}```")


def tuning(samples: int = 1, *, judged: int | None = None, points: int = POINTS, in_flight: int = 1) -> RunPlan:
    budget = Budget(samples=samples, judged=judged)
    return plan_of(new_strategy=repair(in_flight, tune=points), budget=budget)


def tuned(pool: ScriptedPool) -> list[Candidate]:
    return [candidate for candidate in pool.candidates if candidate.operator is Operator.TUNE]


def test_points_ask_no_model_and_cost_a_verdict_each(bench: Bench) -> None:
    asked, pool = sampler(), ScriptedPool(judge)
    assert bench.run(tuning(), sampler=asked, pool=pool).outcome is Outcome.COMPLETED
    assert len(asked.requests) == 1
    spend = bench.spend()
    assert (spend.samples, spend.tokens, spend.judged) == (1, 10, 1 + POINTS), "also when samples are used up"
    assert spend.gpu_seconds == 0.5 * (1 + POINTS)
    draft, *points = pool.candidates
    assert len({candidate.source for candidate in pool.candidates}) == 1 + POINTS, "each is tried once"
    assert {(c.operator, c.parent_ids) for c in points} == {(Operator.TUNE, (draft.id,))}


def test_the_winner_is_a_file_that_stands_alone(bench: Bench) -> None:
    pool = ScriptedPool(judge)
    bench.run(tuning(points=30), sampler=sampler(), pool=pool)
    assert SPACE is not None
    best = max(tuned(pool), key=lambda c: judge(c).speedup)
    assert judge(best).speedup > judge(pool.candidates[0]).speedup
    record = read_run(bench.folder)
    assert record.results[0].candidate == best
    assert pool.confirmed[0] == best, "what was tuned is judged once more before it stands"
    (written,) = bench.folder.root.glob("best/*.py")
    assert best.source.strip() in written.read_text()
    point = SPACE.point_of(best.source)
    assert point is not None
    assert f"BLOCK={point['copy.BLOCK']}, num_warps={point['copy.num_warps']})" in best.source


def test_the_estimator_learns_from_what_was_told() -> None:
    """Over seeds, the later half of the points is faster than the first half."""
    assert SPACE is not None and SPACE.current is not None
    early, late = [], []
    for seed in range(12):
        told, taken = [Told(point=SPACE.current, speedup=speedup_at(SPACE.current))], {SOURCE}
        for number in range(20):
            point = choose_point(SPACE, told=told, taken=taken, seed=100 * seed + number)
            assert point is not None
            told.append(Told(point=point, speedup=speedup_at(point)))
            taken.add(SPACE.at(point))
        speeds = [item.speedup or 0.0 for item in told[1:]]
        early += speeds[:10]
        late += speeds[10:]
    assert sum(late) / len(late) > 1.1 * sum(early) / len(early)


def test_points_that_fail_are_told_and_counted(bench: Bench) -> None:
    pool = ScriptedPool(judge)
    bench.run(tuning(points=40), sampler=sampler(), pool=pool)
    failed = [c for c in tuned(pool) if not judge(c).passed]
    assert failed
    (told,) = read_run(bench.folder).tuning
    assert (told.num_points, told.num_passed) == (40, 40 - len(failed))


def test_a_small_space_runs_dry_and_the_search_goes_on(bench: Bench) -> None:
    """45 points in all; the search then drafts again."""
    pool = ScriptedPool(judge)
    bench.run(tuning(2, points=100), sampler=sampler(), pool=pool)
    assert SPACE is not None
    size = math.prod(len(knob.values) for knob in SPACE.knobs)
    assert len(tuned(pool)) == size - 1
    assert [e.reason for e in bench.events if isinstance(e, Unsampled)] == [NO_POINT]
    assert bench.spend().samples == 2


def test_without_knobs_nothing_is_tuned(bench: Bench) -> None:
    asked = ScriptedSampler(lambda _: "```python\nclass ModelNew:\n    pass\n```")
    pool = ScriptedPool(lambda candidate: verdict_on(candidate, status=Status.PASSED))
    bench.run(tuning(2), sampler=asked, pool=pool)
    assert [e.reason for e in bench.events if isinstance(e, Unsampled)] == [NO_KNOBS]
    assert read_run(bench.folder).tuning == ()


def test_without_times_nothing_is_tuned(bench: Bench) -> None:
    pool = ScriptedPool(lambda candidate: replace(judge(candidate), performance=None))
    bench.run(tuning(2), sampler=sampler(), pool=pool)
    assert Operator.TUNE not in {e.proposal.operator for e in bench.events if isinstance(e, Proposed)}


def test_judged_bounds_it(bench: Bench) -> None:
    pool = ScriptedPool(judge)
    bench.run(tuning(judged=5), sampler=sampler(), pool=pool)
    assert bench.spend().judged == 5


def test_many_in_flight_are_many_points(bench: Bench) -> None:
    pool = ScriptedPool(judge, delay_seconds=0.01)
    bench.run(tuning(in_flight=8), sampler=sampler(), pool=pool)
    assert len({candidate.source for candidate in tuned(pool)}) == POINTS
    assert pool.most_open > 1


def test_the_report_tells_what_was_gained(bench: Bench) -> None:
    pool = ScriptedPool(judge)
    bench.run(tuning(), sampler=sampler(), pool=pool)
    record = read_run(bench.folder)
    (told,) = record.tuning
    best = max(judge(candidate).speedup for candidate in tuned(pool))
    assert told.gain == pytest.approx(best / judge(pool.candidates[0]).speedup)
    assert f"| p0 | {told.origin_id[:12]} | {POINTS} |" in report_text(record)
    assert any(change.startswith("copy.BLOCK 256 to ") for change in told.changes)
    (summary,) = summary_json(record, outcome="completed", error=None)["tuning"]
    assert (summary["points"], summary["best_speedup"]) == (POINTS, told.best_speedup)


def stopped_after(bench: Bench, *, num_events: int) -> None:
    async def go() -> None:
        seen: list[Event] = []

        def watch(event: Event) -> None:
            seen.append(event)
            if len(seen) == num_events:
                controller.stop()

        controller = bench.controller(tuning(), sampler=sampler(), pool=ScriptedPool(judge), on_event=watch)
        await controller.run()

    asyncio.run(go())


@pytest.mark.parametrize("num_events", [4, 5, 6, 7, 8, 9, 20, 21])
def test_a_run_stopped_while_it_tunes_goes_on_where_it_was(tmp_path: Path, num_events: int) -> None:
    """The same points in the same order: they follow from the seed and the ledger."""
    reached = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        if name == "broken":
            stopped_after(bench, num_events=num_events)
        bench.run(tuning(), sampler=sampler(), pool=ScriptedPool(judge))
        with Ledger.open_read_only(bench.folder.ledger) as ledger:
            events = [entry.event for entry in ledger.events()]
            points = [
                ledger.transcript("p0", e.proposal)
                for e in events
                if isinstance(e, Sampled) and e.proposal.operator is Operator.TUNE
            ]
        reached.append([json.loads(point.completion) for point in points if point is not None])
    assert reached[0] == reached[1]
    assert len(reached[0]) == POINTS


def test_a_point_is_a_function_of_seed_and_what_was_told() -> None:
    assert SPACE is not None and SPACE.current is not None
    told = [Told(point=SPACE.current, speedup=1.0)]
    taken = {SOURCE}
    first = choose_point(SPACE, told=told, taken=taken, seed=3)
    assert first == choose_point(SPACE, told=told, taken=taken, seed=3)
    assert len({str(choose_point(SPACE, told=told, taken=taken, seed=seed)) for seed in range(20)}) > 5
