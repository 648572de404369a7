"""The controller's units of work, and what a task that did one returns.

Knows nothing of how they are done.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.events import Attempt, Confirmed, Judged, Sampled, Unsampled
from agent.search import Asked, Search
from sandbox.types import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """What a task returns when the problem is at fault. Not recorded: a resume tries again."""

    problem_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleJob:
    search: Search
    asked: Asked
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeJob:
    search: Search
    candidate: Candidate
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmJob:
    search: Search
    candidate: Candidate
    attempt: Attempt


Result = Sampled | Unsampled | Judged | Confirmed | Abandoned
