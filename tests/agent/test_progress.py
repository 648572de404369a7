"""What a run's events add up to on a screen, and what JSON lines say of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

from rich.console import Console

from agent.events import (
    Attempt,
    Confirmed,
    EndReason,
    Event,
    Judged,
    NewBest,
    Outcome,
    RunEnded,
    RunStarted,
    Sampled,
    SearchEnded,
    SearchSummary,
    Starting,
    Transcript,
)
from agent.progress import JsonDisplay, LiveDisplay, PlainDisplay, tally_lines
from agent.tally import Tally
from sandbox.types import (
    Budget,
    Candidate,
    Correctness,
    Failure,
    Operator,
    Performance,
    Prices,
    Proposal,
    Spend,
    Status,
    Verdict,
)
from tests.agent.clock import Clock

FIRST = Attempt(epoch=1, number=1)


def summary(
    problem_id: str,
    *,
    samples: int = 0,
    end: EndReason | None = None,
    best: Verdict | None = None,
    confirmed: bool = False,
) -> SearchSummary:
    counts = {} if best is None else {Status.PASSED: 1}
    return SearchSummary(
        problem_id=problem_id,
        spend=Spend(samples=samples),
        num_by_status=counts,
        best=best,
        confirmed=confirmed,
        end=end,
        end_detail=None,
    )


def sampled(problem_id: str, *, source: str = "x") -> Sampled:
    return Sampled(
        problem_id=problem_id,
        proposal=Proposal(id="draft-0", operator=Operator.DRAFT),
        candidate=Candidate(problem_id=problem_id, source=source, operator=Operator.DRAFT),
        attempt=FIRST,
        seed=1,
        finish_reason="stop",
        prompt_tokens=10,
        completion_tokens=20,
        tokens_estimated=False,
        transcript=Transcript(prompt="secret prompt", completion="secret completion"),
    )


def failed(status: Status = Status.COMPILE_ERROR) -> Verdict:
    return Verdict(candidate_id="c", status=status, failure=Failure(error_class="E", message="m"))


def passed(*, speedup: float | None = None) -> Verdict:
    performance = None
    if speedup is not None:
        performance = Performance(
            runtime_us=10.0,
            baseline_us={"eager": 10.0 * speedup},
            against="eager",
            speedup=speedup,
            speedup_low=speedup * 0.9,
            speedup_high=speedup * 1.1,
            repetitions=20,
        )
    return Verdict(
        candidate_id="c",
        status=Status.PASSED,
        correctness=Correctness(
            checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1
        ),
        performance=performance,
        plan_hash="p",
    )


def started(*searches: SearchSummary, samples: int | None = 4, run_samples: int | None = None) -> RunStarted:
    return RunStarted(
        budget=Budget(samples=samples),
        run_budget=Budget(samples=run_samples),
        prices=Prices(),
        spend=Spend(),
        searches=searches,
    )


def tally_of(*events: Event, clock: Callable[[], float]) -> Tally:
    tally = Tally(clock=clock)
    for event in events:
        tally.add(event)
    return tally


def test_counts_include_what_was_done_before_a_resume_and_rates_do_not() -> None:
    clock = Clock()
    tally = tally_of(started(summary("a", samples=3, best=passed()), summary("b")), clock=clock)
    clock.now += 30.0
    tally.add(sampled("b"))
    tally.add(Judged(problem_id="b", verdict=failed(), attempt=FIRST))
    assert (tally.num_samples, tally.num_judged) == (4, 2)
    assert tally.judged_per_second == 1 / 30
    # One sample left on a, three on b, and two that the first process sampled and did not judge; one in 30 s.
    assert tally.seconds_left_at_most == (1 + 3 + 2) * 30.0


def test_problems_are_counted_as_confirmed_once_and_over_a_resume() -> None:
    before = summary("a", best=passed(), confirmed=True)
    tally = tally_of(started(before, summary("b"), summary("c")), clock=Clock())
    for problem_id, verdict in (("a", passed()), ("b", passed()), ("b", passed()), ("c", failed())):
        tally.add(Confirmed(problem_id=problem_id, verdict=verdict, attempt=FIRST, plan=None))
    assert tally.num_confirmed == 2


def test_a_problem_that_ended_early_leaves_the_time_estimate() -> None:
    clock = Clock()
    tally = tally_of(started(summary("a"), summary("b")), clock=clock)
    clock.now += 10.0
    tally.add(sampled("a"))
    assert tally.seconds_left_at_most is None
    tally.add(Judged(problem_id="a", verdict=failed(), attempt=FIRST))
    tally.add(SearchEnded(problem_id="b", end=EndReason.EXHAUSTED, detail=None))
    assert tally.num_done == 1
    assert tally.seconds_left_at_most == 30.0


def test_no_time_is_left_where_all_is_done() -> None:
    clock = Clock()
    tally = tally_of(started(summary("a"), summary("b")), sampled("a"), clock=clock)
    clock.now += 10.0
    tally.add(Judged(problem_id="a", verdict=failed(), attempt=FIRST))
    assert "left" not in tally_lines(tally)[1], "how much of its budget a search needs is not known yet"
    tally.add(SearchEnded(problem_id="b", end=EndReason.FINISHED, detail=None))
    assert "at most 30 s left" in tally_lines(tally)[1]
    tally.add(SearchEnded(problem_id="a", end=EndReason.FINISHED, detail=None))
    assert "left" not in tally_lines(tally)[1]


def test_a_program_that_came_twice_is_waited_for_once() -> None:
    clock = Clock()
    judged = Judged(problem_id="a", verdict=failed(), attempt=FIRST)
    tally = tally_of(started(summary("a"), samples=2), sampled("a"), sampled("a"), judged, clock=clock)
    clock.now += 10.0
    assert tally.seconds_left_at_most == 0.0


def test_the_runs_limit_on_samples_bounds_the_time_estimate() -> None:
    clock = Clock()
    judged = Judged(problem_id="a", verdict=failed(), attempt=FIRST)
    for samples in (4, None):
        begun = started(summary("a"), summary("b"), samples=samples, run_samples=3)
        tally = tally_of(begun, sampled("a"), judged, clock=clock)
        clock.now += 10.0
        assert tally.seconds_left_at_most == 20.0, "two of the run's three are left"


def test_no_time_estimate_without_a_limit_on_samples() -> None:
    clock = Clock()
    judged = Judged(problem_id="a", verdict=failed(), attempt=FIRST)
    tally = tally_of(started(summary("a"), samples=None), sampled("a"), judged, clock=clock)
    clock.now += 1.0
    assert tally.seconds_left_at_most is None


def test_a_pass_that_was_not_timed_shows_no_speedup() -> None:
    tally = tally_of(started(summary("a")), NewBest(problem_id="a", verdict=passed()), clock=Clock())
    assert "best speedup not timed" in tally_lines(tally)[1]
    assert "0.00" not in tally_lines(tally)[1]


def test_before_the_first_verdict_there_is_no_word_on_statuses() -> None:
    tally = tally_of(started(summary("a")), clock=Clock())
    assert tally_lines(tally)[1] == "best speedup not timed"


def test_the_fastest_problem_is_named_with_its_interval() -> None:
    events = (
        NewBest(problem_id="slow", verdict=passed(speedup=0.5)),
        NewBest(problem_id="fast", verdict=passed(speedup=2.0)),
    )
    tally = tally_of(started(summary("slow"), summary("fast")), *events, clock=Clock())
    assert "2.00x (1.80 to 2.20) on fast" in tally_lines(tally)[1]


def test_plain_lines_come_every_few_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with PlainDisplay(stream=stream, clock=clock) as display:
        display.show(Starting(run_dir="runs/x", what="Ray"))
        display.show(started(summary("a")))
        for _ in range(100):
            display.show(Judged(problem_id="a", verdict=failed(), attempt=FIRST))
        clock.now += 6.0
        display.show(Judged(problem_id="a", verdict=failed(), attempt=FIRST))
        display.show(RunEnded(outcome=Outcome.COMPLETED, error=None, searches=(), wall_seconds=6.0))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "run folder: runs/x"
    assert "starting Ray" in lines[1]
    assert len(lines) == 4  # the end has nothing to add
    assert "compile_error 101" in lines[-1]


def test_the_live_display_survives_markup_in_what_it_shows() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with LiveDisplay(console=console, clock=Clock()) as display:
        display.show(Starting(run_dir="runs/[bold]", what="Ray"))
        display.show(started(summary("a[bold]")))
        display.show(NewBest(problem_id="a[bold]", verdict=passed(speedup=2.0)))
    assert "run folder: runs/[bold]" in stream.getvalue()
    assert "1 solved" in stream.getvalue()
    assert "a[bold]" in stream.getvalue()


def test_json_lines_name_the_event_and_carry_no_prompt() -> None:
    stream = io.StringIO()
    with JsonDisplay(stream=stream) as display:
        for event in (
            started(summary("a")),
            sampled("a"),
            Judged(problem_id="a", verdict=failed(), attempt=FIRST),
            NewBest(problem_id="a", verdict=passed()),
            SearchEnded(problem_id="a", end=EndReason.BUDGET, detail="samples"),
            RunEnded(outcome=Outcome.COMPLETED, error=None, searches=(), wall_seconds=1.0),
        ):
            display.show(event)
    assert "secret" not in stream.getvalue()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["run_started", "sampled", "judged", "new_best", "search_ended"]
    assert lines[2]["status"] == "compile_error"
    assert lines[3]["speedup"] is None
