"""The page of one verdict: where it failed, what kernels take, what was measured, and nothing that was not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from agent.verdict_page import verdict_page
from sandbox.isolation import ALWAYS, LAYERS
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    KernelFigures,
    Mismatch,
    Operator,
    Pattern,
    Performance,
    Problem,
    Status,
    Verdict,
)

PROBLEM = Problem(id="relu", source="", origin="test")
SOURCE = "\n".join(f"line_{number} = {number}" for number in range(1, 11))
CANDIDATE = Candidate(problem_id="relu", source=SOURCE, operator=Operator.DRAFT)
CORRECTNESS = Correctness(
    checked_by="replay", seeds=(11, 12), weights="by_name", max_error_ratio=0.25, rms_error_ratio=None,
    conditions={"gpu": "NVIDIA H200"},
)  # fmt: skip
KERNEL = KernelFigures(
    name="add[bold]", registers=64, local_bytes=24, shared_bytes=2048, num_warps=4, grid=(7, 2, 1), launches=3
)


def page(verdict: Verdict, *, capability: int = 90, layers: Sequence[str] = LAYERS, width: int = 160) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    told = verdict_page(verdict, problem=PROBLEM, candidate=CANDIDATE, capability=capability, layers=layers)
    console.print(told)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def failed(failure: Failure, status: Status = Status.WRONG_VALUES) -> Verdict:
    return Verdict(candidate_id=CANDIDATE.id, status=status, failure=failure, correctness=CORRECTNESS)


def passed(performance: Performance | None = None) -> Verdict:
    return Verdict(
        candidate_id=CANDIDATE.id,
        status=Status.PASSED,
        plan_hash="h",
        correctness=CORRECTNESS,
        labels=("triton", "of_tomorrow"),
        kernels=(KERNEL,),
        performance=performance,
        stage_seconds={"trace": 0.5},
    )


def performance(**changes: object) -> Performance:
    values: dict[str, object] = {
        "runtime_us": 10.0,
        "baseline_us": {"eager": 30.0, "compile": 20.0},
        "against": "compile",
        "speedup": 2.0,
        "speedup_low": 1.9,
        "speedup_high": 2.1,
        "repetitions": 60,
        "conditions": {"precision": "ieee: no TF32", "sm_clock_mhz": "1980"},
    }
    return Performance(**{**values, **changes})  # type: ignore[arg-type]


def test_a_failure_shows_the_candidates_own_lines_around_it() -> None:
    shown = page(failed(Failure(error_class="NameError", message="no such name", line_number=5), Status.COMPILE_ERROR))
    assert "compile_error  relu: Triton could not compile a kernel." in shown
    assert "NameError: no such name" in shown
    assert "     3  line_3 = 3\n" in shown
    assert ">    5  line_5 = 5\n" in shown
    assert "     7  line_7 = 7" in shown
    assert "line_2" not in shown and "line_8" not in shown


def test_a_line_that_the_source_does_not_have_is_told_as_it_was_told() -> None:
    failure = Failure(error_class="E", message="m", line_number=99, source_line="x = made_elsewhere")
    assert "  x = made_elsewhere" in page(failed(failure))


def test_wrong_values_say_where_how_many_and_what_they_look_like() -> None:
    mismatch = Mismatch(
        output="output[1]", share_wrong=0.0004, first_bad_index=(3, 1), expected=1.25, got=float("nan"),
        pattern=Pattern.NAN,
    )  # fmt: skip
    shown = page(failed(Failure(error_class="WrongValues", message="some are wrong", mismatch=mismatch)))
    assert "output[1], first at [3, 1]; less than 0.1% of the elements are wrong" in shown
    assert "expected  1.25\n" in shown
    assert "got       nan\n" in shown
    assert "The wrong values are NaN." in shown


def test_unverified_is_said_distinctly() -> None:
    shown = page(failed(Failure(error_class="TooLarge", message="too large"), Status.UNVERIFIED))
    assert shown.startswith("unverified  relu: The program could not be checked.")


def test_kernels_are_shown_with_their_occupancy_on_the_target() -> None:
    header, row = (line for line in page(passed()).splitlines() if "registers" in line or "add[bold]" in line)
    assert "occupancy on sm_90" in header
    for cell in ("add[bold]", "64", "24 B", "2.0 KiB", "7 x 2 x 1", "3", "50%, limited by registers"):
        assert cell in row
    assert "not known" in page(passed(), capability=75)


def test_nothing_is_left_out_where_the_terminal_is_narrow() -> None:
    plan, candidate = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    verdict = replace(passed(), plan_hash=plan, candidate_id=candidate)
    for width in (40, 79, 80):
        shown = page(verdict, width=width)
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown, width
        assert max(map(len, shown.splitlines())) <= width
        unbroken = "".join(shown.split())
        for part in (plan, candidate, "add[bold]", "50%,limitedbyregisters"):
            assert part in unbroken, (width, part)
    assert "registers           64\n" in page(verdict, width=79), "a line a figure"
    assert "add[bold]  64 " in page(verdict, width=80), "a line a kernel"


def test_what_was_not_timed_has_no_times() -> None:
    shown = page(passed())
    assert "speedup    not timed" in shown
    for word in ("0.00", "as fast", "roofline", "python call"):
        assert word not in shown


def test_every_baseline_stands_with_its_time_and_ratio() -> None:
    shown = page(passed(performance(floor_us=4.0, python_call_us=44.5)))
    assert "2.00x (1.90 to 2.10) against compile" in shown
    for part in ("30.00  3.00x as fast", "20.00  2.00x as fast (the fastest", "40% of what moving the bytes once"):
        assert part in shown
    assert "44.50" in shown
    assert "policy     ieee: no TF32" in shown
    assert "1980" in shown
    assert "roofline" not in page(passed(performance()))


def test_the_bytes_behind_the_roofline_are_told_where_they_are_known() -> None:
    floored = performance(floor_us=4.0, conditions={"copy_bandwidth_gb_s": "4000"})
    assert "4.00   at 40% of what moving the bytes once allows: 15.3 MiB at least\n" in page(passed(floored))
    assert "at least" not in page(passed(performance(floor_us=4.0)))


def test_the_layers_that_held_are_named_and_those_that_did_not() -> None:
    unbroken = " ".join(page(passed()).split())
    assert f"isolation {len(LAYERS)} of {len(LAYERS)} layers held: process_group, rlimits" in unbroken
    assert "without" not in unbroken
    unbroken = " ".join(page(passed(), layers=(*ALWAYS, "seccomp")).split())
    assert f"{len(ALWAYS) + 1} of {len(LAYERS)} layers held: " in unbroken
    assert "closed_descriptors, seccomp; without landlock, landlock_truncate, capabilities," in unbroken


def test_labels_are_put_in_words_and_new_ones_shown_as_they_are() -> None:
    shown = page(passed())
    assert "triton: the output comes from the candidate's Triton kernels alone" in shown
    assert "of_tomorrow\n" in shown
    assert "seeds      11, 12" in shown
    assert "largest 0.25, rms not finite of the bound" in shown


def test_what_a_candidate_wrote_is_neither_markup_nor_an_escape_sequence() -> None:
    failure = Failure(error_class="E", message="\x1b]0;owned\x07 [red]no[/red]\rpassed", line_number=None)
    shown = page(failed(failure))
    assert "\x1b" not in shown and "\r" not in shown and "\x07" not in shown
    assert "[red]no[/red]" in shown
