"""Puts verdicts and their figures in words, for terminal, report and JSON lines.

Decides nothing about a verdict, and never states a speedup that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.types import Status, Verdict

NOT_TIMED = "not timed"
MAX_NAMED = 40  # names in one line


def printable(text: str) -> str:
    """What a candidate wrote, fit for a terminal: no escape sequences, no control characters, one line."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def speedup_text(verdict: Verdict) -> str:
    """The measured speedup with its 95 % interval, or that there is none."""
    if verdict.performance is None:
        return NOT_TIMED
    figures = verdict.performance
    return f"{figures.speedup:.2f}x ({figures.speedup_low:.2f} to {figures.speedup_high:.2f})"


def statuses_text(counts: Mapping[Status, int]) -> str:
    """Counts by status, the commonest first: "passed 3, wrong_values 1"; "none" where nothing was counted."""
    return statuses_cell(counts) or "none"


def statuses_cell(counts: Mapping[Status, int]) -> str:
    """The same for a place that may stay empty: nothing where nothing was counted."""
    order = {status: place for place, status in enumerate(reversed(Status))}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], order[item[0]]))
    return ", ".join(f"{status.value} {count}" for status, count in ranked if count)


def names_text(names: Sequence[str]) -> str:
    """Names with commas between, `MAX_NAMED` at the most, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"


def duration_text(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """What JSON lines say of a verdict; `speedup` is None where nothing was timed."""
    return {
        "candidate": verdict.candidate_id,
        "status": verdict.status.value,
        "feedback": verdict.feedback,
        "speedup": verdict.speedup if verdict.timed else None,
        "stage_seconds": dict(verdict.stage_seconds),
        "labels": list(verdict.labels),
        "plan_hash": verdict.plan_hash,
        "gpu": verdict.gpu,
    }
