"""Every event of a run as one row of one table: its columns, and how an event fills them.

Knows nothing of file formats. `docs/export.md` documents the columns; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.events import Confirmed, Judged, Proposed, Sampled, SearchEnded, Unsampled
from agent.ledger import Ledger
from agent.ledger_rows import Entry, parents_text
from sandbox.types import BASELINES, Correctness, Failure, Operator, Performance, Proposal, Verdict

Cell = str | int | float | bool | None
Row = dict[str, Cell]  # columns that an event does not fill are absent


class Kind(StrEnum):
    """What a column holds. Every column but `seq`, `epoch`, `seconds`, `event` and `problem_id` may be empty."""

    TEXT = "text"
    WHOLE = "whole"
    NUMBER = "number"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Units stand in the name."""

    name: str
    kind: Kind


STAGES = (
    "trace", "check", "compile", "reference", "interpret", "replay", "compare", "baseline", "quiet", "time",
)  # fmt: skip


def _columns(kind: Kind, *names: str) -> Iterator[Column]:
    return (Column(name=name, kind=kind) for name in names)


COLUMNS = (
    *_columns(Kind.WHOLE, "seq", "epoch"),
    *_columns(Kind.NUMBER, "seconds"),
    *_columns(Kind.TEXT, "event", "problem_id", "proposal_id", "operator", "parents", "candidate_id"),
    *_columns(Kind.WHOLE, "attempt", "seed", "prompt_tokens", "completion_tokens"),
    *_columns(Kind.TRUTH, "tokens_estimated", "truncated"),
    *_columns(Kind.TEXT, "finish_reason", "sampler", "end", "detail", "status", "error_class", "message"),
    *_columns(Kind.WHOLE, "line_number"),
    *_columns(Kind.TEXT, "mismatch_output", "mismatch_pattern"),
    *_columns(Kind.NUMBER, "mismatch_share"),
    *_columns(Kind.TEXT, "checked_by", "weights"),
    *_columns(Kind.WHOLE, "num_seeds"),
    *_columns(Kind.NUMBER, "max_error_ratio", "rms_error_ratio", "speedup", "speedup_low", "speedup_high"),
    *_columns(Kind.TEXT, "against"),
    *_columns(Kind.NUMBER, "runtime_us", *(f"baseline_{name}_us" for name in BASELINES), "floor_us", "python_call_us"),
    *_columns(Kind.WHOLE, "repetitions"),
    *_columns(Kind.TEXT, "plan_hash", "labels", "gpu"),
    *_columns(Kind.WHOLE, "num_kernels", "num_findings"),
    *_columns(Kind.NUMBER, "gpu_seconds", *(f"{stage}_seconds" for stage in STAGES), "other_stages_seconds"),
)
TEXT_COLUMNS = tuple(_columns(Kind.TEXT, "source", "prompt", "completion", "feedback"))


def rows(ledger: Ledger, *, texts: bool) -> Iterator[Row]:
    """Every event in order. `texts` adds what was asked, answered and told. Raises LedgerError."""
    first: dict[str, Proposal] = {}  # by candidate id: the proposal that first led to it
    for entry in ledger.events():
        event = entry.event
        if isinstance(event, Sampled):
            first.setdefault(event.candidate.id, event.proposal)
        row = event_row(entry, first=first)
        if texts and isinstance(event, Sampled):
            transcript = ledger.transcript(event.problem_id, event.proposal)
            row["source"] = event.candidate.source
            row["prompt"] = None if transcript is None else transcript.prompt
            row["completion"] = None if transcript is None else transcript.completion
        if texts and isinstance(event, Judged | Confirmed):
            row["feedback"] = event.verdict.feedback
        yield row


def event_row(entry: Entry, *, first: dict[str, Proposal]) -> Row:
    """One event without its texts. A verdict names operator and parents of the proposal that first led to its
    candidate."""
    event = entry.event
    row: Row = {
        "seq": entry.seq,
        "epoch": entry.epoch,
        "seconds": entry.seconds,
        "event": _EVENT_NAMES[type(event)],
        "problem_id": event.problem_id,
    }
    match event:
        case Proposed(proposal=proposal):
            row |= {"proposal_id": proposal.id} | _origin(proposal)
        case Unsampled(proposal=proposal, reason=reason):
            row |= {"proposal_id": proposal.id, "detail": reason} | _origin(proposal)
        case Sampled():
            row |= _sampled(event)
        case Judged(verdict=verdict) | Confirmed(verdict=verdict):
            row |= _origin(first[verdict.candidate_id]) | _verdict(verdict)
        case SearchEnded(end=end, detail=detail):
            row |= {"end": end.value, "detail": detail}
    if not isinstance(event, Proposed | SearchEnded):
        row["attempt"] = event.attempt.number
    return row


_EVENT_NAMES = {
    Proposed: "proposed",
    Sampled: "sampled",
    Unsampled: "unsampled",
    Judged: "judged",
    SearchEnded: "search_ended",
    Confirmed: "confirmed",
}


def _origin(proposal: Proposal) -> Row:
    return {"operator": Operator(proposal.operator).value, "parents": parents_text(proposal.parents)}


def _sampled(event: Sampled) -> Row:
    return {
        "proposal_id": event.proposal.id,
        **_origin(event.proposal),
        "candidate_id": event.candidate.id,
        "seed": event.seed,
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "tokens_estimated": event.tokens_estimated,
        "truncated": event.candidate.truncated,
        "finish_reason": event.finish_reason,
        "sampler": event.sampler,
    }


def _verdict(verdict: Verdict) -> Row:
    return {
        "candidate_id": verdict.candidate_id,
        "status": verdict.status.value,
        **({} if verdict.failure is None else _failure(verdict.failure)),
        **({} if verdict.correctness is None else _correctness(verdict.correctness)),
        **({} if verdict.performance is None else _performance(verdict.performance)),
        "plan_hash": verdict.plan_hash,
        "labels": " ".join(verdict.labels),
        "gpu": verdict.gpu,
        "num_kernels": len(verdict.kernels),
        "num_findings": len(verdict.findings),
        "gpu_seconds": verdict.spend.gpu_seconds,
        **{f"{stage}_seconds": verdict.stage_seconds.get(stage) for stage in STAGES},
        "other_stages_seconds": sum(s for stage, s in verdict.stage_seconds.items() if stage not in STAGES),
    }


def _failure(failure: Failure) -> Row:
    row: Row = {
        "error_class": failure.error_class,
        "message": failure.message,
        "line_number": failure.line_number,
    }
    if (mismatch := failure.mismatch) is not None:
        pattern = None if mismatch.pattern is None else mismatch.pattern.value
        row |= {"mismatch_output": mismatch.output, "mismatch_pattern": pattern, "mismatch_share": mismatch.share_wrong}
    return row


def _correctness(correctness: Correctness) -> Row:
    return {
        "checked_by": correctness.checked_by,
        "weights": correctness.weights,
        "num_seeds": len(correctness.seeds),
        "max_error_ratio": correctness.max_error_ratio,
        "rms_error_ratio": correctness.rms_error_ratio,
    }


def _performance(performance: Performance) -> Row:
    times: dict[str, Any] = {f"baseline_{name}_us": performance.baseline_us.get(name) for name in BASELINES}
    return {
        "speedup": performance.speedup,
        "speedup_low": performance.speedup_low,
        "speedup_high": performance.speedup_high,
        "against": performance.against,
        "runtime_us": performance.runtime_us,
        **times,
        "floor_us": performance.floor_us,
        "python_call_us": performance.python_call_us,
        "repetitions": performance.repetitions,
    }
