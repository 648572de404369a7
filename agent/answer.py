"""Turns a model's answer into the event that records it, and gives each sample its seed.

Knows nothing of who asked, of the ledger or of what the program does.
"""

from __future__ import annotations

from agent.events import Attempt, Sampled, Transcript
from agent.sampler import Completion, SampleRequest
from sandbox.extract import extract
from sandbox.types import Candidate, content_hash


def seed_of(seed: int, *parts: str) -> int:
    """A seed of 31 bits, which every server takes, of its own for each part of a run."""
    return int(content_hash(str(seed), *parts)[:8], 16) & 0x7FFFFFFF


def sampled(request: SampleRequest, *, completion: Completion, attempt: Attempt) -> Sampled:
    """The event of an answer. One without code is a candidate with an empty source, and is judged like any other."""
    text = completion.text.encode("utf-8", "replace").decode()  # a lone surrogate can be neither hashed nor stored
    extraction = extract(text, finish_reason=completion.finish_reason)
    candidate = Candidate(
        problem_id=request.problem.id,
        source=extraction.source or "",
        operator=request.proposal.operator,
        parent_ids=request.proposal.parents,
        truncated=extraction.truncated,
    )
    return Sampled(
        problem_id=request.problem.id,
        proposal=request.proposal,
        candidate=candidate,
        attempt=attempt,
        seed=request.seed,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        tokens_estimated=completion.tokens_estimated,
        transcript=Transcript(prompt=request.prompt, completion=text, token_ids=completion.token_ids),
        sampler=completion.sampler,
    )
