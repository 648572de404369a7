"""Says what came of a run: the report, the table on the terminal, the `summary` of JSON lines.

Decides nothing and reads no files. A speedup stands here only if it was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from agent import wording
from agent.events import EndReason
from agent.faults import Fault, FaultKind
from agent.limits import currency_text, number_text, over_budget, overshoot_lines
from agent.pool import CONFIRM_EXTRA_SEEDS
from agent.run_record import (
    INADMISSIBLE,
    NOT_CONFIRMED,
    NOTHING_JUDGED,
    UNVERIFIED,
    JudgedTwice,
    ProblemResult,
    RunRecord,
)
from agent.tuning_record import TuningResult
from agent.unspent import TOLD
from sandbox.types import Prices, Spend, Verdict

FAULT_WORDS = {
    FaultKind.JUDGE_FAILED: "a judge failed",
    FaultKind.ENGINE_DIED: "an engine died",
    FaultKind.ENGINE_GIVEN_UP: "an engine was given up",
    FaultKind.GPU_QUARANTINED: "in quarantine, and no candidate is judged any more",
}
MAX_REASONS = 12  # on a terminal, under the table
UNTOLD = frozenset(
    {INADMISSIBLE, NOT_CONFIRMED, NOTHING_JUDGED, UNVERIFIED}
)  # results that the table's counts do not explain


def headline(record: RunRecord) -> str:
    """The run in one line."""
    spend = record.spend
    empty = f" ({record.num_without_code} without code)" if record.num_without_code else ""
    parts = [
        f"{record.num_solved} of {len(record.results)} problems solved",
        f"{spend.samples} samples{empty}",
        f"{spend.tokens} tokens",
        f"{spend.judged} candidates judged",
        *([f"{spend.gpu_seconds:.1f} GPU seconds"] if spend.gpu_seconds else []),
        *([] if (usd := record.prices.usd(spend)) is None else [f"{number_text(usd)} US dollars"]),
        wording.duration_text(record.wall_seconds),
    ]
    return ", ".join(parts)


def summary_table(record: RunRecord) -> Table:
    """What a run's end shows on the terminal; `closing_lines` name the problems that it leaves out."""
    table = Table("problem", "result", "speedup", "samples", "statuses", box=None, pad_edge=False)
    for result in record.results:
        if not result.begun:
            continue
        style = "green" if result.winner is not None else "yellow"
        table.add_row(
            escape(result.problem_id),
            f"[{style}]{result.word}[/]",
            speedup_cell(result),
            str(result.spend.samples),
            wording.statuses_cell(result.num_by_status),
        )
    return table


def closing_lines(record: RunRecord) -> Iterator[str]:
    """What stands under that table: what became of the run, and whatever the table alone would leave unsaid."""
    yield headline(record)
    if record.why_nothing_was_timed is not None:
        yield record.why_nothing_was_timed
    yield from limit_lines(record)
    if idle := [result.problem_id for result in record.results if not result.begun]:
        yield f"not done, for nothing came of it yet: {wording.names_text(idle)}"
    over = [result for result in record.results if result.winner is None and (result.ended or result.confirmations)]
    over.sort(key=lambda result: result.word not in UNTOLD)  # stable: as in the run
    yield from (failure_line(result) for result in over[:MAX_REASONS])
    if len(over) > MAX_REASONS:
        yield f"and {len(over) - MAX_REASONS} more like these, all in the report"
    yield f"report: {record.folder.report}"


def limit_lines(record: RunRecord) -> Iterator[str]:
    """Limits of the run that were reached, and what went over those of the problems, without stops."""
    yield from (limit.text for limit in record.limits_reached)
    if unspent := [result.problem_id for result in record.results if result.end is EndReason.UNSPENT]:
        yield f"{len(unspent)} of {len(record.results)} searches ended with {TOLD}: {wording.names_text(unspent)}"
    spends = {result.problem_id: result.spend for result in record.results}
    yield from overshoot_lines(record.budget, spends, prices=record.prices.of_a_problem)


def summary_json(record: RunRecord, *, outcome: str, error: str | None) -> dict[str, Any]:
    """The last object that `--json` prints."""
    return {
        "event": "summary",
        "outcome": outcome,
        "error": error,
        "run_dir": str(record.folder.root),
        "num_problems": len(record.results),
        "num_solved": record.num_solved,
        "timed": bool(record.timed),
        "note": record.why_nothing_was_timed,
        "wall_seconds": record.wall_seconds,
        "spend": spend_json(record.spend, prices=record.prices),
        "limits_reached": [limit.to_json() for limit in record.limits_reached],
        "statuses": {status.value: count for status, count in record.num_by_status.items()},
        "rules": {count.rule: {"mended": count.num_applied, "passed": count.num_passed} for count in record.rules},
        "tuning": [tuning_json(tuned) for tuned in record.tuning],
        "problems": [result_json(record, result) for result in record.results],
    }


def tuning_json(tuned: TuningResult) -> dict[str, Any]:
    return {
        "problem_id": tuned.problem_id,
        "candidate_id": tuned.origin_id,
        "points": tuned.num_points,
        "passed": tuned.num_passed,
        "speedup": tuned.origin_speedup,
        "best_candidate_id": tuned.best_id,
        "best_speedup": tuned.best_speedup,
        "changed": list(tuned.changes),
    }


def result_json(record: RunRecord, result: ProblemResult) -> dict[str, Any]:
    prices = record.prices.of_a_problem
    winner, figures = result.winner, None if result.winner is None else result.winner.performance
    return {
        "problem": result.problem_id,
        "solved": winner is not None,
        "confirmed": result.confirmed,
        "end": None if result.end is None else result.end.value,
        "end_detail": None if result.ended is None else result.ended.detail,
        "operator": None if result.candidate is None or winner is None else result.candidate.operator.value,
        "candidate": None if winner is None else winner.candidate_id,
        "best": None if winner is None else str(record.folder.best(result.problem_id)),
        "speedup": None if figures is None else figures.speedup,
        "speedup_low": None if figures is None else figures.speedup_low,
        "speedup_high": None if figures is None else figures.speedup_high,
        "against": None if figures is None else figures.against,
        "python_call_us": None if figures is None else figures.python_call_us,
        "failed_confirmation": [twice.confirming.candidate_id for twice in failed_confirmations(result)],
        "statuses": {status.value: count for status, count in result.num_by_status.items()},
        "spend": spend_json(result.spend, prices=prices),
        "over_budget": over_budget(record.budget, result.spend, prices=prices),
    }


def spend_json(spend: Spend, *, prices: Prices) -> dict[str, int | float | None]:
    return {name: getattr(spend, name) for name in Spend.__slots__} | {"usd": prices.usd(spend)}


def speedup_cell(result: ProblemResult) -> str:
    """The confirmed speedup and what it is against; one that is only the search's says so."""
    if result.winner is None:
        return ""
    told = wording.speedup_text(result.winner)
    if result.winner.performance is None:
        return told
    told = f"{told} against {result.winner.performance.against}"
    return told if result.confirmed else f"{told}, {NOT_CONFIRMED}"


def failed_confirmations(result: ProblemResult) -> list[JudgedTwice]:
    return [twice for twice in result.confirmations if not twice.confirming.passed]


def report_text(record: RunRecord) -> str:
    """report.md."""
    return "\n".join(report_lines(record)) + "\n"


def report_lines(record: RunRecord) -> Iterator[str]:
    yield from (f"# Run {record.folder.root.name}", "", f"{headline(record)}.")
    ends = Counter("not ended" if result.end is None else result.end.value for result in record.results)
    yield from ("", f"How searches ended: {', '.join(f'{end} {count}' for end, count in ends.most_common())}.")
    for line in limit_lines(record):
        yield from ("", f"{line[0].upper()}{line[1:]}.")
    if record.why_nothing_was_timed is not None:
        yield from ("", f"**{record.why_nothing_was_timed}** A kernel below is verified, not known to be faster.")
    yield from ("", "## Problems", "", *problem_rows(record))
    if record.timed:
        yield from ("", "## Times", "", *time_rows(record))
    if any(result.confirmations for result in record.results):
        yield from ("", "## Confirmation", "", *confirmation_lines(record))
    if record.tuning:
        yield from ("", "## Tuning", "", *tuning_rows(record))
    if record.rules:
        yield from ("", "## Rules", "", *rule_rows(record))
    if record.gpus or record.faults:
        yield from ("", "## GPUs", "", *gpu_lines(record))
    if unsolved := [result for result in record.results if result.winner is None]:
        yield from ("", "## Not solved", "", *(f"- {failure_line(result)}" for result in unsolved))
    yield from ("", "## Conditions", "", *condition_lines(record))
    yield from ("", "## Environment", "", *(f"- {key}: {plain(value)}" for key, value in record.environment.items()))


def problem_rows(record: RunRecord) -> Iterator[str]:
    gpu = any(result.spend.gpu_seconds for result in record.results)
    yield row(
        "problem", "result", "speedup (95 %)", "best kernel", "statuses", "samples", "tokens", "judged", "seconds"
    )
    yield row(*["---"] * 9)
    for result in record.results:
        spend = result.spend
        best = "" if result.winner is None else f"[{result.winner.candidate_id[:12]}](best/{result.problem_id}.py)"
        best += f" [evidence](evidence/{result.problem_id})" if result.confirmed else ""
        seconds = f"{spend.wall_seconds:.1f}" + (f", GPU {spend.gpu_seconds:.1f}" if gpu else "")
        counts = wording.statuses_cell(result.num_by_status)
        numbers = (str(spend.samples), str(spend.tokens), str(spend.judged), seconds)
        yield row(result.problem_id, result.word, speedup_cell(result), best, counts, *numbers)


def time_rows(record: RunRecord) -> Iterator[str]:
    yield row("problem", "kernel, us", "baselines, us", "repetitions", "against", "roofline, us", "python call, us")
    yield row(*["---"] * 7)
    for result in record.timed:
        assert result.winner is not None and result.winner.performance is not None
        figures = result.winner.performance
        baselines = ", ".join(f"{name} {time_us:.2f}" for name, time_us in figures.baseline_us.items())
        rest = (microseconds_cell(figures.floor_us), microseconds_cell(figures.python_call_us))
        times = (f"{figures.runtime_us:.2f}", baselines, str(figures.repetitions), figures.against)
        yield row(result.problem_id, *times, *rest)


def microseconds_cell(time_us: float | None) -> str:
    return "not measured" if time_us is None else f"{time_us:.2f}"


def confirmation_lines(record: RunRecord) -> Iterator[str]:
    """Both figures of whatever was judged twice, and what did not hold."""
    yield "The best candidate of each problem was traced and judged once more, by processes that had seen nothing of"
    yield f"it, on {CONFIRM_EXTRA_SEEDS} secret seeds more than in the search, all of them fresh; on a GPU it was timed"
    yield "again, to the end. The confirmed figure is the one that counts: the best of many is partly the luckiest."
    yield ""
    yield row("problem", "candidate", "measured while searching", "confirmed")
    yield row(*["---"] * 4)
    for result in record.results:
        for twice in result.confirmations:
            searching, confirming = twice.searching, twice.confirming
            held = speedup_or_passed(confirming) if confirming.passed else f"**{confirming.status}**"
            yield row(result.problem_id, confirming.candidate_id[:12], speedup_or_passed(searching), held)
    failed = [(result, twice) for result in record.results for twice in failed_confirmations(result)]
    if failed:
        yield from ("", "Failed confirmation:", "")
    for result, twice in failed:
        told = failure_text(twice.confirming)
        yield f"- {result.problem_id}: candidate {twice.confirming.candidate_id[:12]}: {told}"


def tuning_rows(record: RunRecord) -> Iterator[str]:
    """What each tuned candidate gained. It asks no model; its points are judged like any candidate."""
    yield row("problem", "candidate", "points", "passed", "speedup", "best point", "gain", "changed")
    yield row(*["---"] * 8)
    for tuned in record.tuning:
        yield row(
            tuned.problem_id,
            tuned.origin_id[:12],
            str(tuned.num_points),
            str(tuned.num_passed),
            f"{tuned.origin_speedup:.2f}x",
            wording.NOT_TIMED if tuned.best_speedup is None else f"{tuned.best_speedup:.2f}x",
            "" if tuned.gain is None else f"{tuned.gain:.3f}",
            ", ".join(tuned.changes),
        )


def rule_rows(record: RunRecord) -> Iterator[str]:
    """What mending by rules came to: it asks no model, so it costs no samples and no tokens."""
    yield row("rule", "candidates mended", "passed")
    yield row(*["---"] * 3)
    for count in record.rules:
        yield row(count.rule, str(count.num_applied), str(count.num_passed))


def gpu_lines(record: RunRecord) -> Iterator[str]:
    """Who judged how much, and what failed. A GPU that only engines used shows in what failed alone."""
    if record.gpus:
        yield row("GPU", "model", "verdicts", "GPU seconds")
        yield row(*["---"] * 4)
    for share in record.gpus:
        yield row(share.uuid, share.model or "not told", str(share.num_verdicts), f"{share.gpu_seconds:.1f}")
    if record.faults:
        yield from ("", "What failed, and was done again elsewhere or anew; no candidate was charged for it:", "")
    yield from (f"- {line}" for line in fault_lines(record.faults))


def fault_lines(faults: Iterable[Fault]) -> Iterator[str]:
    """One for each kind and GPU, those that stop something last."""
    found: dict[tuple[FaultKind, tuple[str, ...]], list[str]] = {}
    for fault in sorted(faults, key=lambda fault: list(FAULT_WORDS).index(fault.kind)):
        found.setdefault((fault.kind, fault.gpus), []).append(fault.reason)
    for (kind, gpus), reasons in found.items():
        times = "" if len(reasons) == 1 else f", {len(reasons)} times, the last"
        where = f" on {', '.join(gpus)}" if gpus else ""
        yield f"{FAULT_WORDS[kind]}{where}{times}: {reasons[-1]}"


def speedup_or_passed(verdict: Verdict) -> str:
    return wording.speedup_text(verdict) if verdict.timed else f"{verdict.status}, {wording.NOT_TIMED}"


def failure_line(result: ProblemResult) -> str:
    """Why a problem is not solved: its latest failure, or what ended its search before there was one. Of an unverified
    one the latest that makes it that."""
    if result.word == NOT_CONFIRMED:
        return f"{result.problem_id}: {NOT_CONFIRMED}: {failure_text(result.confirmations[-1].confirming)}"
    told = result.unverified if result.word == UNVERIFIED else result.last
    if result.word == INADMISSIBLE or told is None or told.failure is None:
        detail = None if result.ended is None else result.ended.detail
        if result.end is EndReason.RUN_BUDGET and detail is not None:
            detail = f"the run's {currency_text(detail)} were used up"
        return f"{result.problem_id}: {result.word}{'' if detail is None else ': ' + ' '.join(detail.split())}"
    return f"{result.problem_id}: last {failure_text(told)}"


def failure_text(verdict: Verdict) -> str:
    """A failed verdict in one line."""
    assert verdict.failure is not None
    failure = verdict.failure
    where = f" (line {failure.line_number})" if failure.line_number is not None else ""
    kind = "" if failure.error_class == verdict.status else f"{failure.error_class}: "
    return f"{verdict.status}: {kind}{' '.join(failure.message.split())}{where}"


def condition_lines(record: RunRecord) -> Iterator[str]:
    """The settings that figures depend on, and what verdicts say of how they were reached, each once;
    of which problems, where not of all."""
    for key in ("seed", "sampler", "strategy", "budget", "run_budget", "prices", "judge", "confirm"):
        if key in record.config and plain(record.config[key]):  # a section whose keys are all null says nothing
            yield f"- {key}: {plain(record.config[key])}"
    stated: dict[str, list[str]] = {}
    winners = [(result.problem_id, result.winner) for result in record.results if result.winner is not None]
    for problem_id, winner in winners:
        for title, figures in (("checked", winner.correctness), ("timed", winner.performance)):
            for key, value in {} if figures is None else figures.conditions.items():
                stated.setdefault(f"{title} under {key}: {value}", []).append(problem_id)
    for line, problem_ids in stated.items():
        of = "" if len(problem_ids) == len(winners) else f" ({', '.join(problem_ids)})"
        yield f"- {line}{of}"


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def plain(value: Any) -> str:
    """A configuration or environment value as text."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items() if inner is not None)
        case list():
            return ", ".join(map(plain, value))
    return str(value)
