"""What happens in a run: the durable events that the ledger keeps, and the passing ones that only a screen wants.

Knows nothing of SQLite, of how events are drawn, or of who decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sandbox.types import Budget, Candidate, Prices, Proposal, Spend, Status, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Fences a result: `epoch` counts the writers that opened the ledger, `number` the tries of one piece of work."""

    epoch: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was sent to the model and what came back, as they were. `token_ids` None: nobody told them."""

    prompt: str
    completion: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A strategy asked for something. Durable before it is sampled."""

    problem_id: str
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A model answered. Durable before the candidate is judged.

    `sampler` says who answered: the kind and the model. `transcript` is None on an event that was read back for a
    replay: texts are fetched one by one, with `Ledger.transcript`.
    """

    problem_id: str
    proposal: Proposal
    candidate: Candidate
    attempt: Attempt
    seed: int
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    transcript: Transcript | None
    sampler: str | None = None

    @property
    def num_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsampled:
    """There is no answer to be had for this proposal; it is told to the strategy as None."""

    problem_id: str
    proposal: Proposal
    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A candidate has its verdict. Durable before the strategy is told."""

    problem_id: str
    verdict: Verdict
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A candidate of an ended search was judged once more, on its own terms. The verdict may well be against it.

    `plan` is None where there was none, or on an event that was read back: it is kept in the evidence alone.
    """

    problem_id: str
    verdict: Verdict
    attempt: Attempt
    plan: bytes | None


class EndReason(StrEnum):
    """Why a search proposes no more."""

    FINISHED = "finished"  # the strategy is done
    EXHAUSTED = "exhausted"  # the sampler has no more answers, or takes none of its prompts
    BUDGET = "budget"  # a limit on each problem's search
    RUN_BUDGET = "run_budget"  # a limit on the whole run
    UNSPENT = "unspent"  # answer after answer took nothing of any limit
    INADMISSIBLE = "inadmissible"  # the problem's own code cannot be judged; a resume tries again
    STOPPED = "stopped"  # no end: the run was left here, and the time until then counts
    IDLE = "idle"  # nothing open, nothing proposed: a strategy that breaks its contract


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEnded:
    """One problem is done: nothing open, and nothing more will be proposed unless a resume takes it up again."""

    problem_id: str
    end: EndReason
    detail: str | None


DurableEvent = Proposed | Sampled | Unsampled | Judged | SearchEnded | Confirmed


class Outcome(StrEnum):
    """How a run ended. All but `completed` leave work that `resume` takes up."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"  # our fault
    REFUSED = "refused"  # the model server refuses what the configuration asks of it: the user's to mend


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSummary:
    """Where one problem's search stands. `best` is a passed verdict, `confirmed` says whether any was; both ends are
    None while the search goes on."""

    problem_id: str
    spend: Spend
    num_by_status: Mapping[Status, int]
    best: Verdict | None
    confirmed: bool
    end: EndReason | None
    end_detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """The first events: the run has its folder, and what it needs is being started. `what` says how long it takes."""

    run_dir: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """Work begins. On a resumed run `searches` already hold what was done before. `budget` limits each of them,
    `run_budget` all together; `spend` is the whole run's so far, of which the wall time is its own."""

    budget: Budget
    run_budget: Budget
    prices: Prices
    spend: Spend
    searches: tuple[SearchSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBest:
    """A better candidate than any before it on its problem; `best/<problem>.py` is written."""

    problem_id: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last event. `error` is one line, and None unless the outcome is `failed` or `refused`."""

    outcome: Outcome
    error: str | None
    searches: tuple[SearchSummary, ...]
    wall_seconds: float


RunSummary = RunEnded
Event = Starting | RunStarted | DurableEvent | NewBest | RunEnded
