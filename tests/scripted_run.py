"""A run folder whose ledger a test writes: drafts, repairs and verdicts as told, with no model and no judge."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from agent.events import (
    Attempt,
    Confirmed,
    DurableEvent,
    EndReason,
    Judged,
    Proposed,
    Sampled,
    SearchEnded,
    Transcript,
    Unsampled,
)
from agent.ledger import Ledger, confirming
from agent.run_folder import RunFolder
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Operator,
    Performance,
    Proposal,
    Spend,
    Status,
    Verdict,
)

CONFIG: dict[str, Any] = {
    "seed": 7,
    "strategy": {"name": "repair", "in_flight": 4},
    "budget": {"samples": 4, "gpu_seconds": 2.0},
    "judge": {"mode": "auto"},
}


def passed(*, speedup: float | None = None, stage_seconds: dict[str, float] | None = None) -> Verdict:
    """A passing verdict; timed on a GPU where a speedup is given."""
    performance = None
    if speedup is not None:
        performance = Performance(
            runtime_us=10.0,
            baseline_us={"eager": 10.0 * speedup},
            against="eager",
            speedup=speedup,
            speedup_low=0.95 * speedup,
            speedup_high=1.05 * speedup,
            repetitions=60,
            conditions={"gpu": "NVIDIA H200"},
        )
    return Verdict(
        candidate_id="to be told",
        status=Status.PASSED,
        plan_hash="h",
        labels=("triton",),
        correctness=Correctness(
            checked_by="interpret" if speedup is None else "replay",
            seeds=(11, 12, 13),
            weights="none",
            max_error_ratio=0.25,
            rms_error_ratio=0.125,
        ),
        performance=performance,
        stage_seconds=stage_seconds or {"trace": 0.5, "check": 0.0, "compile": 0.25},
        spend=Spend(judged=1, gpu_seconds=0.0 if speedup is None else 0.5),
    )


def failed(
    status: Status = Status.COMPILE_ERROR, *, error_class: str = "CompilationError", message: str = "no such name",
    feedback: str = "Triton could not compile a kernel.", source_line: str | None = None,
    stage_seconds: dict[str, float] | None = None,
) -> Verdict:  # fmt: skip
    failure = Failure(error_class=error_class, message=message, line_number=2, source_line=source_line)
    return Verdict(
        candidate_id="to be told",
        status=status,
        feedback=feedback,
        failure=failure,
        stage_seconds={"trace": 0.5} if stage_seconds is None else stage_seconds,
        spend=Spend(judged=1),
    )


class ScriptedRun:
    """Writes events one after the other, a second apart. A context manager; the folder is whole once it is left.

    `group` events share a transaction and the time of the last of them; 1 where a test reads times.
    """

    def __init__(self, root: Path, *problem_ids: str, config: dict[str, Any] | None = None, group: int = 1000) -> None:
        self.folder = RunFolder(root)
        self.folder.write_config(yaml.safe_dump({**CONFIG, **(config or {})}, sort_keys=False))
        self.folder.write_environment({"torch": "2.13.0", "gpu": None})
        self._ledger = Ledger.open(self.folder.ledger)
        self._ledger.record_problems({problem_id: f"key of {problem_id}" for problem_id in problem_ids})
        self._attempt = Attempt(epoch=self._ledger.epoch, number=1)
        self._num_proposals = 0
        self._seconds = 0.0
        self._group = group
        self._waiting: list[DurableEvent] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._ledger.close()

    def add(
        self,
        problem_id: str,
        source: str,
        verdict: Verdict,
        *,
        operator: Operator = Operator.DRAFT,
        parents: tuple[str, ...] = (),
    ) -> str:
        """A proposal, its answer and its verdict; the candidate's id."""
        candidate_id = self.sample(problem_id, source, operator=operator, parents=parents)
        self.judge(problem_id, candidate_id, verdict)
        return candidate_id

    def judge(self, problem_id: str, candidate_id: str, verdict: Verdict) -> None:
        """The verdict on what was sampled before."""
        told = Verdict.from_json(verdict.to_json() | {"candidate_id": candidate_id})
        self._append(Judged(problem_id=problem_id, verdict=told, attempt=self._attempt))

    def sample(
        self, problem_id: str, source: str, *, operator: Operator = Operator.DRAFT, parents: tuple[str, ...] = ()
    ) -> str:
        """An answer without a verdict: one that is being judged, or a program that was there before."""
        proposal = self._propose(problem_id, operator=operator, parents=parents)
        candidate = Candidate(problem_id=problem_id, source=source, operator=operator, parent_ids=parents)
        sampled = Sampled(
            problem_id=problem_id,
            proposal=proposal,
            candidate=candidate,
            attempt=self._attempt,
            seed=3,
            finish_reason="stop",
            sampler="recorded",
            prompt_tokens=100,
            completion_tokens=50,
            tokens_estimated=False,
            transcript=Transcript(prompt="write it", completion=source),
        )
        self._append(sampled)
        return candidate.id

    def refuse(self, problem_id: str, reason: str) -> None:
        """A proposal that has no answer."""
        proposal = self._propose(problem_id, operator=Operator.DRAFT, parents=())
        self._append(Unsampled(problem_id=problem_id, proposal=proposal, attempt=self._attempt, reason=reason))

    def end(self, problem_id: str, end: EndReason = EndReason.BUDGET, *, detail: str | None = None) -> None:
        self._append(SearchEnded(problem_id=problem_id, end=end, detail=detail))

    def confirm(self, problem_id: str, candidate_id: str, verdict: Verdict) -> None:
        self._flush()
        (attempt,) = self._ledger.begin_attempts([confirming(candidate_id)])
        told = Verdict.from_json(verdict.to_json() | {"candidate_id": candidate_id})
        self._append(Confirmed(problem_id=problem_id, verdict=told, attempt=attempt, plan=None))

    def _propose(self, problem_id: str, *, operator: Operator, parents: tuple[str, ...]) -> Proposal:
        proposal = Proposal(id=f"{operator}-{self._num_proposals}", operator=operator, parents=parents)
        self._num_proposals += 1
        self._append(Proposed(problem_id=problem_id, proposal=proposal))
        return proposal

    def _append(self, event: DurableEvent) -> None:
        self._seconds += 1.0
        self._waiting.append(event)
        if len(self._waiting) >= self._group:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._ledger.append(self._waiting, seconds=self._seconds)
            self._waiting = []
