"""A run leaves a small file that says where it stands; `watch` follows it and nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent import cli
from agent.events import (
    Attempt,
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
from agent.progress import JsonDisplay
from agent.progress_file import ProgressFile
from agent.run_folder import RunFolder
from agent.snapshot import Snapshot, Standings
from agent.watch_command import SILENT_SECONDS, Seen, lines_of, page, watch
from sandbox.types import Budget, Candidate, Operator, Prices, Proposal, Spend, Status, Verdict
from tests.agent.clock import Clock
from tests.scripted_run import failed, passed

FIRST = Attempt(epoch=1, number=1)


def started(*problem_ids: str) -> RunStarted:
    searches = (
        SearchSummary(
            problem_id=id, spend=Spend(), num_by_status={}, best=None, confirmed=False, end=None, end_detail=None
        )
        for id in problem_ids
    )
    return started_with(*searches, run_budget=Budget(), prices=Prices())


def started_with(*searches: SearchSummary, run_budget: Budget, prices: Prices) -> RunStarted:
    spend = sum((search.spend for search in searches), Spend())
    limits = {"budget": Budget(samples=4), "run_budget": run_budget}
    return RunStarted(**limits, prices=prices, spend=spend, searches=searches)


def answered(problem_id: str, verdict: Verdict) -> list[Event]:
    """A sample of 150 tokens and its verdict, with what a controller tells of it."""
    candidate = Candidate(problem_id=problem_id, source=f"{verdict.status}", operator=Operator.DRAFT)
    told = Verdict.from_json(verdict.to_json() | {"candidate_id": candidate.id})
    sampled = Sampled(
        problem_id=problem_id,
        proposal=Proposal(id="draft-0", operator=Operator.DRAFT),
        candidate=candidate,
        attempt=FIRST,
        seed=1,
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=50,
        tokens_estimated=False,
        transcript=Transcript(prompt="p", completion="c"),
    )
    best = [NewBest(problem_id=problem_id, verdict=told)] if told.passed else []
    return [sampled, Judged(problem_id=problem_id, verdict=told, attempt=FIRST), *best]


def ended(outcome: Outcome = Outcome.COMPLETED) -> RunEnded:
    return RunEnded(outcome=outcome, error=None, searches=(), wall_seconds=3.0)


def story() -> list[Event]:
    end = SearchEnded(problem_id="gelu", end=EndReason.BUDGET, detail="samples")
    return [
        Starting(run_dir="runs/x", what="the sandbox"),
        started("gelu", "sums"),
        *answered("gelu", passed(speedup=2.0)),
        *answered("sums", failed()),
        end,
    ]


def snapshot_of(events: list[Event]) -> Snapshot:
    standings = Standings(clock=Clock())
    for event in events:
        standings.add(event)
    return standings.snapshot()


def seen(snapshot: Snapshot, *, age_seconds: float = 0.0) -> Seen:
    return Seen(snapshot=snapshot, age_seconds=age_seconds, older_seconds=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.write_config("seed: 1\n")
    return folder


def test_a_snapshot_adds_events_up_and_survives_being_written() -> None:
    snapshot = snapshot_of(story())
    gelu, sums = snapshot.problems
    assert (gelu.samples, gelu.tokens, gelu.judged, gelu.gpu_seconds) == (1, 150, 1, 0.5)
    assert (gelu.solved, gelu.speedup, gelu.end) == (True, 2.0, "budget")
    assert (sums.solved, sums.statuses, sums.end) == (False, {Status.COMPILE_ERROR: 1}, None)
    assert snapshot.state == "running"
    assert Snapshot.from_json(snapshot.model_dump_json()) == snapshot


def test_a_resumed_run_begins_with_what_was_done_before() -> None:
    before = SearchSummary(
        problem_id="gelu",
        spend=Spend(samples=3, tokens=30, judged=2, gpu_seconds=1.5),
        num_by_status={Status.PASSED: 1, Status.TIMEOUT: 1},
        best=passed(speedup=3.0),
        confirmed=True,
        end=EndReason.BUDGET,
        end_detail="samples",
    )
    snapshot = snapshot_of([started_with(before, run_budget=Budget(), prices=Prices())])
    (problem,) = snapshot.problems
    assert snapshot.num_confirmed == 1
    assert (problem.samples, problem.tokens, problem.judged, problem.gpu_seconds) == (3, 30, 2, 1.5)
    assert (problem.speedup, problem.end) == (3.0, "budget")


def test_the_lines_tell_the_runs_budget_where_that_is_less_and_dollars_where_they_have_a_price() -> None:
    prices = Prices(completion_tokens_per_million=10_000.0)
    begun = started_with(*started("gelu", "sums").searches, run_budget=Budget(samples=3, usd=2.5), prices=prices)
    snapshot = snapshot_of([begun, *answered("gelu", passed(speedup=2.0))])
    lines = list(lines_of(seen(snapshot)))
    assert lines[2].startswith("samples 1 of 3, tokens 150, judged 1, gpu seconds 0.5, usd 0.5 of 2.5")


def test_a_fix_is_no_sample() -> None:
    answer, judged = answered("gelu", failed())
    assert isinstance(answer, Sampled)
    fix = replace(answer, proposal=Proposal(id="fix-0", operator=Operator.FIX, parents=(answer.candidate.id,)))
    snapshot = snapshot_of([started("gelu"), answer, judged, fix])
    assert (snapshot.problems[0].samples, snapshot.spend["samples"]) == (1, 1)


def test_the_lines_tell_spend_against_budget_and_the_best() -> None:
    lines = list(lines_of(Seen(snapshot=snapshot_of(story()), age_seconds=0.0, older_seconds=0.0)))
    assert lines[0].startswith("running")
    assert lines[1] == "problems 1/2 done, 1 solved, 0 confirmed"
    assert lines[2].startswith("samples 2 of 8, tokens 300, judged 2, gpu seconds 0.5")
    assert lines[3] == "best speedup 2.00x on gelu"
    assert len(lines) == 4


def test_a_file_that_no_longer_changes_is_told_and_an_ended_run_is_not_silent() -> None:
    late = SILENT_SECONDS + 1
    assert "silent for" in list(lines_of(Seen(snapshot=snapshot_of(story()), age_seconds=late, older_seconds=0.0)))[-1]
    over = snapshot_of([*story(), ended()])
    assert not [line for line in lines_of(seen(over, age_seconds=late)) if "silent" in line]


def test_a_page_shows_what_goes_on_first_and_says_what_did_not_fit() -> None:
    problems = [f"p{number:03}-{'long' * 10}" for number in range(50)]
    ends = [SearchEnded(problem_id=id, end=EndReason.FINISHED, detail=None) for id in problems[:45]]
    snapshot = snapshot_of([started(*problems), *ends])
    console = Console(width=80, height=24, file=io.StringIO())
    with console.capture() as capture:
        console.print(page(seen(snapshot), width=console.width, height=24))
    shown = capture.get()
    assert [id[:4] for id in problems[45:] if id[:4] not in shown] == []
    assert "and 41 more" in shown
    assert len(shown.splitlines()) <= 24


def test_markup_and_escape_sequences_of_others_are_shown_as_text() -> None:
    hostile = "[red]\x1b[2J"
    snapshot = snapshot_of([started(hostile)])
    console = Console(width=120, height=24, file=io.StringIO(), force_terminal=True)
    with console.capture() as capture:
        console.print(page(seen(snapshot), width=console.width, height=24))
    assert "\x1b[2J" not in capture.get()
    assert "[red]\N{REPLACEMENT CHARACTER}[2J" in capture.get()


def follow(folder: RunFolder, *, sleep: Callable[[float], None], clock: Clock | None = None) -> tuple[int, str]:
    stream, clock = io.StringIO(), clock or Clock()
    console = Console(file=stream, width=200)
    code = watch(folder, console=console, clock=clock, wall_clock=time.time, sleep=sleep, live=False)
    return code, stream.getvalue()


@pytest.mark.parametrize(("age_on_file", "word"), [(0.0, "silent for 31 s"), (600.0, "not written for 10 min 0")])
def test_that_a_run_is_killed_is_told_once_and_at_once_where_its_file_is_old(
    folder: RunFolder, age_on_file: float, word: str
) -> None:
    clock, num_sleeps = Clock(), 0
    folder.write_progress(snapshot_of(story()).model_dump_json())
    os.utime(folder.progress, (time.time() - age_on_file,) * 2)

    def sleep(_: float) -> None:
        nonlocal num_sleeps
        num_sleeps += 1
        clock.now += 1.0
        if num_sleeps == 90:
            folder.write_progress(snapshot_of([*story(), ended()]).model_dump_json())

    code, shown = follow(folder, sleep=sleep, clock=clock)
    *before, silent, end = shown.splitlines()
    assert (code, len(before)) == (0, 0 if age_on_file else 1)
    assert silent.startswith("running when last heard of, 0 s |") and word in silent
    assert end.startswith("completed, 0 s |") and "clock" not in end


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_narrow_screen_shortens_names_and_no_figure(width: int) -> None:
    """The middle of a name goes: the ends tell problems apart."""
    problem_id = f"level2_{'matmul_' * 8}softmax_34"
    events = [started(problem_id), *answered(problem_id, passed(speedup=2.0)), *answered(problem_id, failed())]
    snapshot = snapshot_of([*events, SearchEnded(problem_id=problem_id, end=EndReason.BUDGET, detail=None)])
    console = Console(width=width, height=24, file=io.StringIO())
    with console.capture() as capture:
        console.print(page(seen(snapshot), width=console.width, height=24))
    (row,) = [line for line in capture.get().splitlines() if line.startswith("level2")]
    assert re.search(r"_34 +solved, budget +2\.00x +2/4 +300 +2 +(compile_err|passed)", row)
    assert (problem_id in row) == (width == 200)


def test_watching_ends_with_the_run_and_tells_each_change_once(folder: RunFolder) -> None:
    """The file is gone for a moment on the way, as it may be on a network file system."""
    states = [story()[:2], story()[:2], None, story(), [*story(), ended()]]

    def step(_: float) -> None:
        state = states.pop(0)
        if state is None:
            folder.progress.unlink()
        else:
            folder.write_progress(snapshot_of(state).model_dump_json())

    step(0.0)
    code, shown = follow(folder, sleep=step)
    assert code == 0
    assert [line.split(",")[0] for line in shown.splitlines()] == ["running", "running", "completed"]
    assert states == []


def test_a_live_screen_ends_with_the_run_too(folder: RunFolder) -> None:
    folder.write_progress(snapshot_of([*story(), ended(Outcome.STOPPED)]).model_dump_json())
    console = Console(file=io.StringIO(), width=120, height=30, force_terminal=True)
    sleeps: list[float] = []
    assert watch(folder, console=console, clock=Clock(), wall_clock=time.time, sleep=sleeps.append, live=True) == 0
    assert sleeps == []


@pytest.mark.parametrize("text", ["{", '{"version": 1}', '{"version": 1, "state": "asleep"}'])
def test_a_file_that_is_no_snapshot_is_told_in_one_line(
    folder: RunFolder, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_progress(text)
    assert cli.main(["watch", str(folder.root)]) == 2
    assert "progress.json: is no snapshot" in capsys.readouterr().err


def test_a_run_without_the_file_cannot_be_watched(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(folder.root)]) == 2
    assert "has no progress.json" in capsys.readouterr().err


def test_the_file_holds_the_last_state_when_the_run_is_left(folder: RunFolder) -> None:
    stream = io.StringIO()
    with ProgressFile(folder, display=JsonDisplay(stream=stream), clock=Clock()) as display:
        for event in [*story(), ended()]:
            display.show(event)
    assert Snapshot.from_json(folder.progress.read_text()).state == "completed"
    assert json.loads(stream.getvalue().splitlines()[0])["event"] == "starting"  # events are shown as well


def test_a_run_that_is_left_midway_is_stopped_and_one_that_never_began_writes_nothing(folder: RunFolder) -> None:
    with ProgressFile(folder, display=JsonDisplay(stream=io.StringIO()), clock=Clock()):
        pass
    assert not folder.progress.exists()
    with ProgressFile(folder, display=JsonDisplay(stream=io.StringIO()), clock=Clock()) as display:
        display.show(story()[0])
    assert Snapshot.from_json(folder.progress.read_text()).state == "stopped"


def test_the_file_is_written_while_the_run_goes_on(folder: RunFolder) -> None:
    with ProgressFile(folder, display=JsonDisplay(stream=io.StringIO()), clock=Clock()) as display:
        display.show(story()[0])
        deadline = time.monotonic() + 60
        while not folder.progress.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert Snapshot.from_json(folder.progress.read_text()).state == "starting"


def test_a_disk_that_takes_nothing_does_not_end_the_run(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    folder.progress.mkdir()  # cannot be replaced by a file
    with ProgressFile(folder, display=JsonDisplay(stream=io.StringIO()), clock=Clock()) as display:
        display.show(story()[0])
    assert "cannot be watched" in caplog.text


def test_an_interrupt_leaves_with_code_zero(folder: RunFolder) -> None:
    folder.write_progress(snapshot_of(story()).model_dump_json())
    command = [sys.executable, "-m", "agent.cli", "watch", str(folder.root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    assert "1 solved" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
