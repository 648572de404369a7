"""Writes a run's report as one HTML file that needs nothing else: no network, no fonts, no files beside it.

Whatever a candidate or a configuration says is hostile text: the template escapes all of it, and a content security
policy allows the page's own style sheet and script by their hashes and nothing besides. Decides nothing about the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from agent import report, wording
from agent.gpu_share import GpuShare
from agent.html_charts import progress_charts, speedup_charts
from agent.html_costs import cost_tables
from agent.html_page import Environment, page_environment, page_policy, template_text
from agent.html_problem import KINDS, problem_view
from agent.html_samples import draws_of_run, sample_charts, sample_note, why_not_independent
from agent.ledger import Ledger
from agent.limits import currency_text, number_text
from agent.run_figures import RunFigures, StageFlow, read_figures
from agent.run_record import RunRecord
from agent.source_view import cut, visible
from agent.svg_chart import share_bar
from sandbox.spend import amount
from sandbox.types import Budget

MAX_PROBLEM_CHARACTERS = 7 * 2**20  # of all problems together: past it, sources are left out and named as such
MAX_FAILURE_CLASSES = 40

STAGE_WORDS = {
    "screen": "is there a program, does it parse",
    "trace": "import it, run it on fake tensors, compile its kernels",
    "check": "validate and classify the plan",
    "run": "interpret or replay the plan, compare with the reference",
    "passed": "correct within the bounds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRow:
    """One stage: how many came, how many went on, and what the others ended with."""

    stage: str
    words: str
    num_entered: int
    ended: str
    bar: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """A quantity among others: name, what is told of it, and its share as a bar."""

    name: str
    told: tuple[str, ...]
    bar: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """A class of failures with its first example."""

    status: str
    kind: str
    error_class: str
    count: int
    num_problems: int
    problem_id: str
    candidate_id: str
    told: str
    source_line: str | None
    feedback: str


def report_html(record: RunRecord, *, ledger: Ledger) -> str:
    """The whole page. Reads the ledger once for the figures, then source by source. Raises LedgerError."""
    environment = page_environment()
    figures = read_figures(ledger)
    problems, num_brief = _problems(environment, record, ledger=ledger)
    style, script = template_text("report.css"), template_text("report.js")
    return environment.get_template("report.html").render(
        title=visible(record.folder.root.name),
        policy=page_policy(style=style, script=script),
        style=Markup(style),
        script=Markup(script),
        told=report.headline(record),
        outcome=_outcome(record),
        limits=tuple(visible(line) for line in report.limit_lines(record)),
        why_nothing_was_timed=record.why_nothing_was_timed,
        tiles=tuple(_tiles(record)),
        budget=tuple(_budget_rows(record)),
        progress=tuple(progress_charts(figures, num_problems=len(record.results))),
        speedups=tuple(speedup_charts(record)),
        **_samples(figures, record=record),
        flow=tuple(_flow_rows(figures.flow)),
        flow_note=_flow_note(figures, record=record),
        problems=problems,
        num_problems=len(record.results),
        num_brief=num_brief,
        failures=tuple(_failure_rows(figures)),
        num_failure_classes=len(figures.failures),
        stages=tuple(_stage_rows(figures)),
        operators=tuple(_operator_rows(figures)),
        costs=tuple(cost_tables(record, figures=figures)),
        rules=tuple((visible(rule.rule), f"{rule.num_applied:,}", f"{rule.num_passed:,}") for rule in record.rules),
        gpus=tuple(_gpu_row(share) for share in record.gpus),
        faults=tuple(visible(cut(line)) for line in report.fault_lines(record.faults)),
        tuning=tuple(tuple(visible(cell) for cell in cells) for cells in _tuning_rows(record)),
        conditions=tuple(visible(cut(line.removeprefix("- "))) for line in report.condition_lines(record)),
        environment=tuple((visible(k), visible(cut(report.plain(v)))) for k, v in record.environment.items()),
    )


def _gpu_row(share: GpuShare) -> tuple[str, str, str, str]:
    return (
        visible(share.uuid),
        visible(share.model or "not told"),
        f"{share.num_verdicts:,}",
        f"{share.gpu_seconds:,.1f}",
    )


def _tuning_rows(record: RunRecord) -> Iterator[tuple[str, ...]]:
    for tuned in record.tuning:
        best = wording.NOT_TIMED if tuned.best_speedup is None else f"{tuned.best_speedup:.2f}x"
        gain = "" if tuned.gain is None else f"{tuned.gain:.3f}"
        counts = (f"{tuned.num_points:,}", f"{tuned.num_passed:,}", f"{tuned.origin_speedup:.2f}x", best, gain)
        yield tuned.problem_id, *counts, ", ".join(tuned.changes)


def _samples(figures: RunFigures, *, record: RunRecord) -> dict[str, Any]:
    """What the template is given of pass@k: curves with a note, or why there are none."""
    all_ended = all(result.ended is not None for result in record.results)
    why = why_not_independent(record.config, drafts=figures.drafts, all_ended=all_ended)
    if why is not None or figures.drafts is None:
        return {"why_not_independent": why, "samples": (), "sample_note": ""}
    draws = draws_of_run(record.config, drafts=figures.drafts)
    return {"why_not_independent": None, "samples": tuple(sample_charts(draws)), "sample_note": sample_note(draws)}


def _problems(environment: Environment, record: RunRecord, *, ledger: Ledger) -> tuple[Markup, int]:
    """All problems written out, and how many of them without their sources, to keep the page small."""
    write = environment.get_template("problem.html")
    parts: list[str] = []
    num_characters = num_brief = 0
    for number, result in enumerate(record.results):
        brief = num_characters > MAX_PROBLEM_CHARACTERS
        view = problem_view(result, number=number, ledger=ledger, brief=brief)
        parts.append(write.render(problem=view, brief=brief))
        num_characters += len(parts[-1])
        num_brief += brief
    return Markup("").join(map(Markup, parts)), num_brief


def _outcome(record: RunRecord) -> str:
    num_open = sum(result.ended is None for result in record.results)
    if num_open:
        return f"{num_open} of {len(record.results)} searches have not ended: the run goes on, or was interrupted."
    ends = Counter(result.end.value for result in record.results if result.end is not None)
    return f"All searches have ended: {', '.join(f'{end} {count}' for end, count in ends.most_common())}."


def _tiles(record: RunRecord) -> Iterator[tuple[str, str]]:
    spend = record.spend
    yield "problems solved", f"{record.num_solved} of {len(record.results)}"
    timed = [result.winner.speedup for result in record.timed if result.winner is not None]
    yield "best speedup", f"{max(timed):.2f}x" if timed else wording.NOT_TIMED
    yield "samples", f"{spend.samples:,}"
    yield "tokens", f"{spend.tokens:,}"
    yield "candidates judged", f"{spend.judged:,}"
    if spend.gpu_seconds:
        yield "GPU seconds", f"{spend.gpu_seconds:,.1f}"
    if (usd := record.prices.usd(spend)) is not None:
        yield "US dollars", number_text(usd)
    yield "wall time", wording.duration_text(record.wall_seconds)


def _budget_rows(record: RunRecord) -> Iterator[tuple[str, str, str, str, str]]:
    """Currency, limit on each problem, the most that one problem took, limit on the run, and what the run took."""
    for currency in Budget.__slots__:
        taken = [amount(currency, result.spend, prices=record.prices.of_a_problem) for result in record.results]
        most = max((spent for spent in taken if spent is not None), default=None)
        total = amount(currency, record.spend, prices=record.prices)
        if currency == "usd" and total is None:
            continue
        limits = (getattr(record.budget, currency), getattr(record.run_budget, currency))
        yield currency_text(currency), _cell(limits[0]), _cell(most), _cell(limits[1]), _cell(total)


def _cell(value: float | None) -> str:
    return "none" if value is None else number_text(value)


def _flow_rows(flow: tuple[StageFlow, ...]) -> Iterator[FlowRow]:
    first = max(1, flow[0].num_entered) if flow else 1
    for stage in flow:
        ended = [(f"fill {KINDS[status]}", count / first) for status, count in stage.num_ended.items()]
        going_on = stage.num_entered - sum(stage.num_ended.values())
        yield FlowRow(
            stage=stage.stage,
            words=STAGE_WORDS[stage.stage],
            num_entered=stage.num_entered,
            ended=wording.statuses_text(stage.num_ended),
            bar=share_bar([("fill on", going_on / first), *ended]),
        )


def _flow_note(figures: RunFigures, *, record: RunRecord) -> str:
    answered = sum(counts.num_answered for counts in figures.operators)
    unsampled = sum(counts.num_unsampled for counts in figures.operators)
    parts = [f"{answered} answers to {sum(counts.num_proposed for counts in figures.operators)} proposals"]
    parts += [f"{unsampled} proposals without one"] if unsampled else []
    parts += (
        [f"{figures.num_repeated} answers repeated a program that was there before"] if figures.num_repeated else []
    )
    parts += [f"{record.num_without_code} answers held no code"] if record.num_without_code else []
    confirmed = sum(result.confirmed for result in record.results)
    tried = sum(len(result.confirmations) for result in record.results)
    parts += [f"{tried} candidates judged once more, {confirmed} problems confirmed"] if tried else []
    return "; ".join(parts) + "."


def _failure_rows(figures: RunFigures) -> Iterator[FailureRow]:
    for found in figures.failures[:MAX_FAILURE_CLASSES]:
        verdict = found.example
        assert verdict.failure is not None
        line = verdict.failure.source_line
        yield FailureRow(
            status=found.status.value,
            kind=KINDS[found.status],
            error_class=visible(cut(found.error_class)),
            count=found.count,
            num_problems=found.num_problems,
            problem_id=visible(found.problem_id),
            candidate_id=verdict.candidate_id,
            told=visible(cut(report.failure_text(verdict))),
            source_line=None if line is None else visible(cut(line.strip())),
            feedback=visible(cut(verdict.feedback)),
        )


def _stage_rows(figures: RunFigures) -> Iterator[ShareRow]:
    total = sum(figures.stage_seconds.values()) or 1.0
    for name, seconds in figures.stage_seconds.items():
        told = (wording.duration_text(seconds) if seconds >= 1 else f"{seconds:.2f} s", f"{seconds / total:.1%}")
        yield ShareRow(name=visible(name), told=told, bar=share_bar([("fill on", seconds / total)]))


def _operator_rows(figures: RunFigures) -> Iterator[ShareRow]:
    total = sum(o.prompt_tokens + o.completion_tokens for o in figures.operators) or 1
    for o in figures.operators:
        counts = (o.num_proposed, o.num_answered, o.num_judged, o.num_passed, o.prompt_tokens, o.completion_tokens)
        passed = f"{o.num_passed / o.num_judged:.0%}" if o.num_judged else ""
        told = (*(f"{count:,}" for count in counts), passed)
        bar = share_bar([("fill on", (o.prompt_tokens + o.completion_tokens) / total)])
        yield ShareRow(name=o.operator.value, told=told, bar=bar)
