"""The report states what is on record, with conditions, and no speedup that was not measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent.events import Attempt, EndReason, Judged, Proposed, Sampled, SearchEnded, Transcript
from agent.faults import Fault, FaultKind, FaultLog
from agent.html_report import report_html
from agent.ledger import Ledger
from agent.report import closing_lines, report_text, summary_json, summary_table
from agent.run_folder import RunFolder
from agent.run_record import RunRecord, read_run
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Mismatch,
    Operator,
    Performance,
    Proposal,
    Spend,
    Status,
    Verdict,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.write_config("seed: 7\njudge: {mode: auto, num_seeds: 3}\nbudget: {samples: 4}\n")
    folder.write_environment({"torch": "2.13.0", "gpu": None, "isolation.rlimits": True})
    return folder


def record_verdicts(
    folder: RunFolder, verdicts: Mapping[str, Mapping[str, Verdict]], *, idle: tuple[str, ...] = ()
) -> RunRecord:
    """A ledger in which each problem was drafted as often as it has verdicts, by source; idle ones are not done."""
    with Ledger.open(folder.ledger) as ledger:
        ledger.record_problems({name: f"key of {name}" for name in (*verdicts, *idle)})
        for problem_id, by_source in verdicts.items():
            for number, (source, verdict) in enumerate(by_source.items()):
                proposal = Proposal(id=f"draft-{number}", operator=Operator.DRAFT)
                ledger.append([Proposed(problem_id=problem_id, proposal=proposal)], seconds=1.0)
                append_results(ledger, problem_id, proposal=proposal, source=source, verdict=verdict)
            ledger.append([SearchEnded(problem_id=problem_id, end=EndReason.BUDGET, detail="samples")], seconds=3.0)
    return read_run(folder)


def test_gpus_and_what_failed_on_them_are_told(folder: RunFolder) -> None:
    log = FaultLog(folder.faults, clock=lambda: 1.5)
    for reason in ("first", "second"):
        log.tell(Fault(kind=FaultKind.JUDGE_FAILED, gpus=("GPU-b",), reason=reason))
    log.tell(Fault(kind=FaultKind.GPU_QUARANTINED, gpus=("GPU-b",), reason="3 faults in a row"))
    with folder.faults.open("a") as file:
        file.write('{"at": 2.0, "ki')  # killed in mid-line
    wrong = Verdict(
        candidate_id="set below", status=Status.WRONG_VALUES, gpu="GPU-a", spend=Spend(judged=1, gpu_seconds=0.25),
        failure=Failure(error_class="WrongValues", message="half"),
        correctness=Correctness(
            checked_by="replay", seeds=(1,), weights="none", max_error_ratio=9.0, rms_error_ratio=9.0,
            conditions={"gpu": "NVIDIA H100"},
        ),
    )  # fmt: skip
    text = report_text(record_verdicts(folder, {"p": {"a": wrong, "b": wrong}}))
    assert "| GPU-a | NVIDIA H100 | 2 | 0.5 |" in text
    assert "- a judge failed on GPU-b, 2 times, the last: second" in text
    assert "- in quarantine, and no candidate is judged any more on GPU-b: 3 faults in a row" in text
    assert text.index("GPU-b, 2 times") < text.index("in quarantine")


def test_without_gpus_and_faults_the_report_has_no_such_part(folder: RunFolder) -> None:
    assert "## GPUs" not in report_text(record_verdicts(folder, {}, idle=("p",)))


def append_results(ledger: Ledger, problem_id: str, *, proposal: Proposal, source: str, verdict: Verdict) -> None:
    candidate = Candidate(problem_id=problem_id, source=source, operator=Operator.DRAFT)
    attempt = Attempt(epoch=ledger.epoch, number=1)
    sampled = Sampled(
        problem_id=problem_id,
        proposal=proposal,
        candidate=candidate,
        attempt=attempt,
        seed=1,
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=50,
        tokens_estimated=False,
        transcript=Transcript(prompt="p", completion=source),
    )
    ledger.append([sampled], seconds=2.0)
    told = Verdict.from_json(verdict.to_json() | {"candidate_id": candidate.id})
    ledger.append([Judged(problem_id=problem_id, verdict=told, attempt=attempt)], seconds=3.0)


def passed(*, speedup: float | None = None) -> Verdict:
    performance = None
    if speedup is not None:
        performance = Performance(
            runtime_us=12.5,
            baseline_us={"eager": 12.5 * speedup},
            against="eager",
            speedup=speedup,
            speedup_low=speedup - 0.1,
            speedup_high=speedup + 0.1,
            repetitions=40,
            conditions={"GPU": "NVIDIA H200"},
        )
    correctness = Correctness(
        checked_by="interpret" if speedup is None else "replay",
        seeds=(1, 2, 3),
        weights="by_name",
        max_error_ratio=0.2,
        rms_error_ratio=0.1,
        conditions={"reference": "float64"},
    )
    spend = Spend(judged=1, gpu_seconds=0.0 if speedup is None else 0.25)
    return Verdict(
        candidate_id="c",
        status=Status.PASSED,
        correctness=correctness,
        performance=performance,
        plan_hash="p",
        spend=spend,
    )


def failed(status: Status, *, message: str = "half | wrong\nsecond line") -> Verdict:
    mismatch = Mismatch(output="output", share_wrong=0.5, first_bad_index=(3,), expected=1.0, got=0.0)
    failure = Failure(error_class="WrongValues", message=message, line_number=12, mismatch=mismatch)
    return Verdict(candidate_id="c", status=status, failure=failure, feedback=message)


def test_a_timed_best_is_reported_with_its_spread_times_and_conditions(folder: RunFolder) -> None:
    folder.write_environment({"gpu": "NVIDIA H200"})
    record = record_verdicts(folder, {"gelu": {"a": passed(speedup=1.5), "b": passed(speedup=2.0)}})
    text = report_text(record)
    assert "2.00x (1.90 to 2.10)" in text
    assert "1.50x" not in text
    assert "| gelu | 12.50 | eager 25.00 | 40 |" in text
    assert "timed under GPU: NVIDIA H200" in text
    assert "checked under reference: float64" in text
    assert "0.5 GPU seconds" in text
    assert "Nothing was timed" not in text


def test_conditions_that_differ_name_their_problems(folder: RunFolder) -> None:
    figures = passed(speedup=2.0).performance
    assert figures is not None
    slow = replace(passed(), performance=replace(figures, conditions={"GPU": "NVIDIA H200", "sm_clock_mhz": "1200"}))
    text = report_text(record_verdicts(folder, {"gelu": {"a": passed(speedup=2.0)}, "sums": {"b": slow}}))
    assert "- timed under GPU: NVIDIA H200\n" in text
    assert "- timed under sm_clock_mhz: 1200 (sums)\n" in text


def test_the_baseline_that_a_speedup_is_against_and_every_other_time_are_shown(folder: RunFolder) -> None:
    figures = passed(speedup=2.0).performance
    assert figures is not None
    more = replace(
        figures, baseline_us={"eager": 40.0, "compile": 25.0}, against="compile", floor_us=6.25, python_call_us=51.5
    )
    text = report_text(record_verdicts(folder, {"gelu": {"a": replace(passed(), performance=more)}}))
    assert "2.00x (1.90 to 2.10) against compile" in text
    assert "| gelu | 12.50 | eager 40.00, compile 25.00 | 40 | compile | 6.25 | 51.50 |" in text


def test_without_a_gpu_the_report_says_so_and_shows_no_speedup(folder: RunFolder) -> None:
    text = report_text(record_verdicts(folder, {"gelu": {"a": passed()}}))
    assert "**Nothing was timed: no GPU.**" in text
    assert "not timed" in text
    assert "0.00x" not in text
    assert "## Times" not in text


def test_on_a_gpu_machine_the_reason_for_no_times_is_another(folder: RunFolder) -> None:
    folder.write_environment({"gpu": "NVIDIA H200"})
    record = record_verdicts(folder, {"gelu": {"a": failed(Status.COMPILE_ERROR)}})
    assert "no candidate passed" in (record.why_nothing_was_timed or "")


def test_failures_are_listed_in_one_line_each(folder: RunFolder) -> None:
    verdicts = {
        "sums": {"a": failed(Status.WRONG_VALUES)},
        "large": {"b": failed(Status.UNVERIFIED, message="too large")},
    }
    text = report_text(record_verdicts(folder, verdicts, idle=("untouched",)))
    assert "- sums: last wrong_values: WrongValues: half | wrong second line (line 12)" in text
    assert "- large: last unverified: WrongValues: too large (line 12)" in text
    assert "- untouched: not done" in text
    assert "0 of 3 problems solved" in text


def test_what_is_unverified_is_told_with_its_reason_and_no_word_twice(folder: RunFolder) -> None:
    wrong = Failure(error_class="wrong_values", message="output: 8 of 800 values are wrong")
    verdicts = {
        "sums": {"a": Verdict(candidate_id="c", status=Status.WRONG_VALUES, failure=wrong)},
        "large": {
            "b": failed(Status.UNVERIFIED, message="too large"),
            "c": Verdict(candidate_id="c", status=Status.WRONG_VALUES, failure=wrong),
        },
    }
    record = record_verdicts(folder, verdicts)
    told = [
        "large: last unverified: WrongValues: too large (line 12)",  # first what the table leaves open
        "sums: last wrong_values: output: 8 of 800 values are wrong",
    ]
    assert [line for line in closing_lines(record) if ": last " in line] == told
    assert {line[2:] for line in report_text(record).splitlines() if ": last " in line} == set(told)
    with Ledger.open_read_only(folder.ledger) as ledger:
        assert "last unverified: WrongValues: too large" in report_html(record, ledger=ledger)


def test_why_searches_ended_is_reported_with_its_reason(folder: RunFolder) -> None:
    record_verdicts(folder, {"gelu": {"a": passed()}}, idle=("odd", "long"))
    ends = [
        SearchEnded(problem_id="gelu", end=EndReason.BUDGET, detail="samples"),
        SearchEnded(problem_id="odd", end=EndReason.INADMISSIBLE, detail="its reference\nis not finite"),
        SearchEnded(problem_id="long", end=EndReason.EXHAUSTED, detail="the prompt is too long"),
    ]
    with Ledger.open(folder.ledger) as ledger:
        ledger.append(ends[:2], seconds=1.0)
    assert "How searches ended: budget 1, inadmissible 1, not ended 1." in report_text(read_run(folder))
    with Ledger.open(folder.ledger) as ledger:
        ledger.append(ends[2:], seconds=1.0)
    record = read_run(folder)
    told = ["odd: inadmissible: its reference is not finite", "long: nothing judged: the prompt is too long"]
    for line in told:
        assert f"- {line}\n" in report_text(record)
    assert [line for line in closing_lines(record) if line in told] == told
    assert {
        problem["problem"]: problem["end"] for problem in summary_json(record, outcome="", error=None)["problems"]
    } == {
        "gelu": "budget",
        "odd": "inadmissible",
        "long": "exhausted",
    }


def test_every_row_of_the_table_has_the_same_number_of_cells(folder: RunFolder) -> None:
    record = record_verdicts(folder, {"a": {"x": passed()}, "b": {"y": failed(Status.TIMEOUT)}}, idle=("c",))
    rows = [line for line in report_text(record).splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_spend_is_summed_over_problems(folder: RunFolder) -> None:
    record = record_verdicts(folder, {"a": {"x": passed(), "y": failed(Status.TIMEOUT)}, "b": {"z": passed()}})
    assert (record.spend.samples, record.spend.tokens, record.spend.judged) == (3, 450, 3)
    assert record.num_by_status == {Status.PASSED: 2, Status.TIMEOUT: 1}


def test_the_summary_object_is_json_with_null_where_nothing_was_measured(folder: RunFolder) -> None:
    record = record_verdicts(folder, {"a": {"x": passed()}, "b": {"y": failed(Status.TIMEOUT)}})
    summary = json.loads(json.dumps(summary_json(record, outcome="completed", error=None)))
    assert [problem["solved"] for problem in summary["problems"]] == [True, False]
    assert [problem["speedup"] for problem in summary["problems"]] == [None, None]
    assert summary["problems"][0]["best"].endswith("best/a.py")
    assert summary["timed"] is False


def test_the_table_on_the_terminal_shows_solved_and_unsolved(folder: RunFolder) -> None:
    record = record_verdicts(folder, {"a": {"x": passed()}, "b": {"y": failed(Status.TIMEOUT)}})
    console = Console(width=120)
    with console.capture() as capture:
        console.print(summary_table(record))
    shown = capture.get()
    assert "solved by draft" in shown
    assert "unsolved" in shown
    assert "timeout 1" in shown


def test_problems_that_a_run_never_came_to_are_one_line_and_no_rows(folder: RunFolder) -> None:
    idle = tuple(f"idle_{number:02}" for number in range(43))
    record = record_verdicts(folder, {"a": {"x": passed()}}, idle=idle)
    assert summary_table(record).row_count == 1
    assert "| idle_00 | not done |  |  |  | 0 |" in report_text(record)
    [told] = [line for line in closing_lines(record) if "not done" in line]
    assert ", ".join(idle[:40]) + " and 3 more" in told
