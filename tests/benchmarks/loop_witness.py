"""Sees what comes of a loop, event by event, and adds it up: rates, what was lost or came twice, and how long it stood.

Knows nothing of how the run was started or of what was killed in it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from agent.events import Event, Judged, RunStarted, Sampled
from agent.ledger import Ledger

JUDGE_STAGES = ("reference", "replay", "baseline", "quiet", "time", "interpret")
TRACE_STAGES = ("trace", "check", "compile")
BUCKET_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An answer (`tokens`) or a verdict's figures, and when it came."""

    at: float
    tokens: int = 0
    gpu: str | None = None
    timed: bool = False
    judge_seconds: float = 0.0
    trace_seconds: float = 0.0


class Witness:
    """Sees every event of the run, as a display does."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.answers: list[Seen] = []
        self.verdicts: list[Seen] = []

    def show(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case RunStarted():
                self.begun = now
            case Sampled():
                self.answers.append(Seen(at=now, tokens=event.completion_tokens))
            case Judged(verdict=verdict):
                spent = verdict.stage_seconds
                self.verdicts.append(
                    Seen(
                        at=now, gpu=verdict.gpu, timed=verdict.timed,
                        judge_seconds=sum(spent.get(stage, 0.0) for stage in JUDGE_STAGES),
                        trace_seconds=sum(spent.get(stage, 0.0) for stage in TRACE_STAGES),
                    )
                )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def rates(verdicts: Sequence[Seen], answers: Sequence[Seen], *, begin: float, end: float) -> dict[str, Any]:
    """Of what came between the two times, of `time.monotonic`."""
    if end <= begin:
        return {"seconds": 0.0}
    judged = [seen for seen in verdicts if begin <= seen.at <= end]
    answered = [seen for seen in answers if begin <= seen.at <= end]
    minutes = (end - begin) / 60
    judging, tracing = sum(s.judge_seconds for s in judged), sum(s.trace_seconds for s in judged)
    busy = Counter[str]()
    for seen in judged:
        if seen.gpu is not None:
            # What opens a problem takes seconds, some of which may lie before the stretch.
            busy[seen.gpu] += min(seen.judge_seconds, seen.at - begin)  # type: ignore[assignment]  # counts of seconds
    return {
        "seconds": end - begin,
        "judged_per_minute": len(judged) / minutes,
        "timed_per_minute": sum(seen.timed for seen in judged) / minutes,
        "answers_per_minute": len(answered) / minutes,
        "tokens_per_second": sum(seen.tokens for seen in answered) / (end - begin),
        "judge_seconds_a_candidate": judging / len(judged) if judged else None,
        "tracers_a_judge": tracing / judging if judging else None,
        "judge_busy_share": {gpu: seconds / (end - begin) for gpu, seconds in sorted(busy.items())},
    }


def engines_a_judge(stretch: dict[str, Any]) -> float | None:
    """Candidates a second that one judge gets through when it has always one, over those that one engine gives."""
    each, answers = stretch.get("judge_seconds_a_candidate"), stretch.get("answers_per_minute")
    return 60.0 / each / answers if each and answers and stretch.get("tokens_per_second") else None


def ledger_faults(ledger: Ledger, *, completed: bool) -> dict[str, int]:
    """What must be 0: answers and verdicts that came twice, and of a run that was completed, candidates without one."""
    answered, judged, candidates = Counter[tuple[str, str]](), Counter[str](), set[str]()
    for entry in ledger.events():
        if isinstance(entry.event, Sampled):
            answered[entry.event.problem_id, entry.event.proposal.id] += 1
            candidates.add(entry.event.candidate.id)
        elif isinstance(entry.event, Judged):
            judged[entry.event.verdict.candidate_id] += 1
    return {
        "answered_twice": sum(count > 1 for count in answered.values()),
        "judged_twice": sum(count > 1 for count in judged.values()),
        "not_judged": len(candidates - judged.keys()) if completed else 0,
        "candidates": len(candidates),
        "judged": len(judged),
    }


def buckets(seen: Sequence[Seen], *, begun: float, end: float) -> list[int]:
    counts = Counter(int((each.at - begun) // BUCKET_SECONDS) for each in list(seen))
    return [counts[number] for number in range(int((end - begun) // BUCKET_SECONDS) + 1)]


def longest_gap(after: Sequence[float]) -> float | None:
    """In seconds, from 0 on and between what came at these times."""
    times = [0.0, *sorted(after)]
    return max((b - a for a, b in itertools.pairwise(times)), default=None)
