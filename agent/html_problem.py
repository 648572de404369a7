"""One problem's part of the HTML report, as records that a template writes out: best kernel, lineage, figures.

Decides what is shown and reads sources from the ledger; knows nothing of tags beyond those of code and charts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from agent import report, wording
from agent.ledger import Ledger
from agent.plan_view import bytes_text
from agent.run_figures import lineage
from agent.run_record import ProblemResult
from agent.source_view import cut, difference, highlighted, numbered, visible
from agent.svg_chart import share_bar
from agent.verdict_page import LABEL_WORDS, roofline_text
from sandbox.types import KernelFigures, Observation, Performance, Status, Verdict

SHOWN_ANCESTORS = 4  # whose texts are written out, the nearest; of the others only what became of them

# Classes of the style sheet. Colour never tells alone: the status stands beside it in words.
KINDS: Mapping[Status, str] = {
    Status.NO_KERNEL: "early",
    Status.REJECTED: "early",
    Status.TRACE_ERROR: "trace",
    Status.UNTRACEABLE: "trace",
    Status.COMPILE_ERROR: "trace",
    Status.LAUNCH_ERROR: "crash",
    Status.ILLEGAL_ACCESS: "crash",
    Status.TIMEOUT: "crash",
    Status.OUT_OF_MEMORY: "crash",
    Status.WRONG_SHAPE: "wrong",
    Status.WRONG_DTYPE: "wrong",
    Status.WRONG_VALUES: "wrong",
    Status.UNVERIFIED: "unsure",
    Status.PASSED: "passed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One candidate on the way to the shown one. `difference` is from the step before; `source` is written out for the
    last step and where there is no difference to read it from. Both are None where they are left out."""

    candidate_id: str
    operator: str
    status: str
    kind: str
    told: str
    feedback: str
    source: Markup | None
    difference: Markup | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView:
    """All that is shown of a problem. `title` says which candidate `steps` lead to: the last of them."""

    anchor: str
    problem_id: str
    word: str
    solved: bool
    speedup: str
    statuses: str
    bar: Markup
    spend: str
    best_link: str | None
    evidence_link: str | None
    why_unsolved: str | None
    title: str
    steps: tuple[Step, ...]
    facts: tuple[tuple[str, str], ...]
    times: tuple[tuple[str, str, str], ...]
    kernels: tuple[tuple[str, ...], ...]

    @property
    def shown(self) -> Step | None:
        return self.steps[-1] if self.steps else None


def problem_view(result: ProblemResult, *, number: int, ledger: Ledger, brief: bool) -> ProblemView:
    """`number` makes its anchor. `brief` leaves all sources out. Raises LedgerError."""
    verdict = result.winner or result.best or result.last
    steps = () if verdict is None else tuple(_steps(verdict, ledger=ledger, brief=brief))
    solved = result.winner is not None
    return ProblemView(
        anchor=f"problem-{number}",
        problem_id=visible(result.problem_id),
        word=result.word,
        solved=solved,
        speedup=report.speedup_cell(result),
        statuses=wording.statuses_cell(result.num_by_status),
        bar=status_bar(result.num_by_status),
        spend=_spend_text(result),
        best_link=f"best/{quote(result.problem_id, safe='')}.py" if solved else None,
        evidence_link=f"evidence/{quote(result.problem_id, safe='')}/" if result.confirmed else None,
        why_unsolved=None if solved else visible(cut(report.failure_line(result))),
        title=_title(result),
        steps=steps,
        facts=() if verdict is None else tuple((k, visible(cut(v))) for k, v in _facts(verdict, result=result)),
        times=() if verdict is None or verdict.performance is None else tuple(_times(verdict.performance)),
        kernels=() if verdict is None else tuple(map(_kernel_row, verdict.kernels)),
    )


def status_bar(counts: Mapping[Status, int]) -> Markup:
    """How a set of candidates ended, as a bar; passed first."""
    total = sum(counts.values())
    ordered = [(status, counts.get(status, 0)) for status in reversed(Status)]
    return share_bar([(f"fill {KINDS[status]}", count / total) for status, count in ordered if count])


def _title(result: ProblemResult) -> str:
    if result.winner is not None:
        return "Best kernel"
    return "Best of the search, which did not hold when judged again" if result.best else "Latest attempt"


def _spend_text(result: ProblemResult) -> str:
    spend = result.spend
    parts = [f"{spend.samples} samples", f"{spend.tokens} tokens", f"{spend.judged} judged"]
    parts += [f"{spend.gpu_seconds:.1f} GPU seconds"] if spend.gpu_seconds else []
    return ", ".join([*parts, wording.duration_text(spend.wall_seconds)])


def _steps(verdict: Verdict, *, ledger: Ledger, brief: bool) -> Iterator[Step]:
    found = lineage(ledger, ledger.observation(verdict.candidate_id).candidate)
    first = len(found) if brief else max(0, len(found) - SHOWN_ANCESTORS)
    for number, observation in enumerate(found):
        last = number == len(found) - 1
        source = compared = None
        if number > first:
            compared = difference(found[number - 1].candidate.source, observation.candidate.source)
        if last and not brief:
            source = highlighted(observation.candidate.source)
        elif number >= first and compared is None:
            source = numbered(observation.candidate.source)
        yield _step(observation, source=source, compared=compared)


def _step(observation: Observation, *, source: Markup | None, compared: Markup | None) -> Step:
    candidate, verdict = observation.candidate, observation.verdict
    others = candidate.parent_ids[1:]
    merged = f", with {', '.join(other[:12] for other in others)}" if others else ""
    told = report.failure_text(verdict) if verdict.failure is not None else report.speedup_or_passed(verdict)
    return Step(
        candidate_id=candidate.id,
        operator=f"{candidate.operator}{merged}{', cut off' if candidate.truncated else ''}",
        status=verdict.status.value,
        kind=KINDS[verdict.status],
        told=visible(cut(told)),
        feedback=visible(cut(verdict.feedback)),
        source=source,
        difference=compared,
    )


def _facts(verdict: Verdict, *, result: ProblemResult) -> Iterator[tuple[str, str]]:
    """Seeds are counted and not named: as long as a search goes on, they are the judge's secret."""
    yield "candidate", verdict.candidate_id
    if (correctness := verdict.correctness) is not None:
        seeds = f"{len(correctness.seeds)} secret seeds"
        yield "checked", f"by {correctness.checked_by}, {seeds}, weights {correctness.weights}"
        largest, rms = _ratio(correctness.max_error_ratio), _ratio(correctness.rms_error_ratio)
        yield "errors", f"largest {largest}, rms {rms} of the bound"
        if correctness.conditions:
            yield "checked under", ", ".join(f"{key} {value}" for key, value in correctness.conditions.items())
    for twice in result.confirmations:
        if twice.confirming.candidate_id == verdict.candidate_id:
            searched, confirmed = map(report.speedup_or_passed, (twice.searching, twice.confirming))
            yield "while searching", searched
            yield "confirmed", confirmed if twice.confirming.passed else report.failure_text(twice.confirming)
    for label in verdict.labels:
        words = LABEL_WORDS.get(label)
        yield "label", label if words is None else f"{label}: {words}"
    yield "judging took", ", ".join(f"{stage} {s:.2f} s" for stage, s in verdict.stage_seconds.items()) or "nothing"


def _ratio(ratio: float | None) -> str:
    return "not finite" if ratio is None else f"{ratio:.3g}"


def _times(performance: Performance) -> Iterator[tuple[str, str, str]]:
    """Name, microseconds, and what the candidate is to it."""
    yield "candidate", f"{performance.runtime_us:.2f}", f"{performance.repetitions} repetitions"
    for name, time_us in performance.baseline_us.items():
        against = "; the fastest: the speedup is against it" if name == performance.against else ""
        yield name, f"{time_us:.2f}", f"{time_us / performance.runtime_us:.2f}x as fast{against}"
    if (floor_us := performance.floor_us) is not None:
        yield "roofline", f"{floor_us:.2f}", roofline_text(performance, floor_us=floor_us)
    if performance.python_call_us is not None:
        yield "python call", f"{performance.python_call_us:.2f}", "wall time, as its own process tells it"


def _kernel_row(kernel: KernelFigures) -> tuple[str, ...]:
    spills = bytes_text(kernel.local_bytes) if kernel.local_bytes else "none"
    grid = " x ".join(map(str, kernel.grid))
    counts = (str(kernel.registers), spills, bytes_text(kernel.shared_bytes), str(kernel.num_warps), grid)
    return (visible(kernel.name), *counts, str(kernel.launches))
