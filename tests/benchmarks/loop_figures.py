"""Adds up what a run over real engines did: rates, stages, what was lost or charged twice, and the table of speedups.

Pure, but for reading the ledger. Knows nothing of how the run was started or watched.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent import report, wording
from agent.events import Outcome, Proposed, RunSummary, Sampled, Unsampled
from agent.ledger import Ledger
from agent.run_record import ProblemResult
from sandbox.types import Operator, Performance, Status, Verdict

JUDGE_STAGES = ("reference", "replay", "baseline", "quiet", "time")  # while these last, the judge's GPU is its
MODEL = frozenset(Operator) - {Operator.FIX, Operator.TUNE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A model's answer, when it came, and how many tokens it has."""

    at: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A verdict, and when the strategy was told."""

    at: float
    verdict: Verdict


def rates(answers: Sequence[Answered], ranked: Sequence[Ranked], *, begin: float, end: float) -> dict[str, Any]:
    """Of what came between the two times. The rate of sampling is up to the last answer, that of ranking to the end."""
    mine = [answer for answer in answers if answer.at <= end]
    judged = [entry for entry in ranked if entry.at <= end]
    sampling_seconds = max((answer.at for answer in mine), default=begin) - begin
    found: dict[str, Any] = {"seconds": end - begin, "samples": len(mine), "judged": len(judged)}
    found["passed"] = sum(entry.verdict.passed for entry in judged)
    found["timed"] = sum(entry.verdict.timed for entry in judged)
    found["statuses"] = {status.value: n for status, n in Counter(e.verdict.status for e in judged).most_common()}
    if sampling_seconds > 0:
        found["sampling_seconds"] = sampling_seconds
        found["sampled_per_minute"] = 60 * len(mine) / sampling_seconds
        found["tokens_per_second"] = sum(answer.tokens for answer in mine) / sampling_seconds
    if end > begin:
        found["ranked_per_minute"] = 60 * len(judged) / (end - begin)
    return found


def stages(verdicts: Sequence[Verdict], *, seconds: float) -> dict[str, dict[str, float]]:
    """For each stage: how many candidates had it, their median, and all of them together as time and as a share of
    `seconds`, which is above 1 where several go through it at once."""
    times: dict[str, list[float]] = {}
    for verdict in verdicts:
        for stage, taken in verdict.stage_seconds.items():
            times.setdefault(stage, []).append(taken)
    return {
        stage: {
            "count": len(found), "median": statistics.median(found), "total": sum(found),
            "share": sum(found) / seconds,
        }
        for stage, found in times.items()
    }  # fmt: skip


def ledger_faults(ledger: Ledger, summary: RunSummary) -> dict[str, int]:
    """What must be 0: proposals without an answer, with two, answers nobody asked for, and searches whose charge is
    not what their answers in the ledger came to."""
    asked, answered = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    tokens, samples = Counter[str](), Counter[str]()
    for entry in ledger.events():
        event = entry.event
        if isinstance(event, Proposed):
            asked[event.problem_id, event.proposal.id] += 1
        elif isinstance(event, Sampled | Unsampled):
            answered[event.problem_id, event.proposal.id] += 1
        if isinstance(event, Sampled):
            tokens[event.problem_id] += event.num_tokens
            samples[event.problem_id] += event.proposal.operator in MODEL
    whole = summary.outcome is Outcome.COMPLETED
    return {
        "lost": len(asked.keys() - answered.keys()) if whole else 0,
        "answered_twice": sum(count > 1 for count in answered.values()),
        "asked_twice": sum(count > 1 for count in asked.values()),
        "never_asked": len(answered.keys() - asked.keys()),
        "charged_wrongly": sum(
            (search.spend.tokens, search.spend.samples) != (tokens[search.problem_id], samples[search.problem_id])
            for search in summary.searches
        ),
    }


def problem_row(result: ProblemResult) -> dict[str, Any]:
    """One problem, plain. Speedups are of the confirmed figure where there is one."""
    figures = None if result.winner is None else result.winner.performance
    row: dict[str, Any] = {
        "problem": result.problem_id,
        "result": result.word,
        "confirmed": result.confirmed,
        "samples": result.spend.samples,
        "passed": result.num_by_status.get(Status.PASSED, 0),
        "statuses": wording.statuses_text(result.num_by_status),
    }
    return row if figures is None else row | _figures(figures)


def _figures(figures: Performance) -> dict[str, Any]:
    return {
        "kernel_us": figures.runtime_us,
        "baseline_us": dict(figures.baseline_us),
        "against": figures.against,
        "speedup": figures.speedup,
        "low": figures.speedup_low,
        "high": figures.speedup_high,
        "floor_us": figures.floor_us,
    }


def speedup_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown, the fastest first; what was not timed is named beneath."""
    timed = sorted((row for row in rows if "speedup" in row), key=lambda row: -row["speedup"])
    names = sorted({name for row in timed for name in row["baseline_us"]})
    heads = ("problem", "kernel, us", *(f"{name}, us" for name in names), "against the fastest (95 %)", "passed")
    yield report.row(*heads)
    yield report.row(*["---"] * len(heads))
    for row in timed:
        times = (_us(row["kernel_us"]), *(_us(row["baseline_us"].get(name)) for name in names))
        speedup = f"{row['speedup']:.2f} ({row['low']:.2f} to {row['high']:.2f}) {row['against']}"
        speedup += "" if row["confirmed"] else ", not confirmed"
        yield report.row(row["problem"], *times, speedup, f"{row['passed']} of {row['samples']}")
    yield from ("", *_sums(timed, names, num_problems=len(rows)))
    left = [f"{row['problem']} ({row['statuses']})" for row in rows if "speedup" not in row]
    yield from ("", f"Not timed: {'; '.join(left) or 'none'}.")


def _sums(timed: Sequence[Mapping[str, Any]], names: Sequence[str], *, num_problems: int) -> Iterator[str]:
    confirmed = sum(row["confirmed"] for row in timed)
    yield f"{len(timed)} of {num_problems} problems solved and timed, {confirmed} of them confirmed."
    for name in names:
        ratios = [row["baseline_us"][name] / row["kernel_us"] for row in timed if name in row["baseline_us"]]
        yield f"Against {name}: {_ratios(ratios)}."
    if timed:
        yield f"Against the fastest of them: {_ratios([row['speedup'] for row in timed])}."


def _ratios(ratios: Sequence[float]) -> str:
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    faster = sum(ratio > 1 for ratio in ratios)
    return f"geometric mean {mean:.2f}, faster on {faster} of {len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f}"


def _us(time_us: float | None) -> str:
    return "" if time_us is None else f"{time_us:.1f}"
