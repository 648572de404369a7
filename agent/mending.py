"""Carries out proposals that ask no model: a failed candidate with its findings applied.

Knows nothing of samplers, of the ledger or of what the rules do.
"""

from __future__ import annotations

import dataclasses

from agent.events import Attempt, Sampled, Transcript
from sandbox.mend import mended, rules
from sandbox.types import Candidate, Observation, Proposal, Verdict

FIXED_BY = "fixed_by:"


def fixed(proposal: Proposal, *, parent: Observation, attempt: Attempt) -> Sampled:
    """The event of a mended candidate: recorded like an answer, with nothing sent, nothing received and no tokens."""
    candidate = Candidate(
        problem_id=parent.candidate.problem_id,
        source=mended(parent.candidate.source, parent.verdict.findings),
        operator=proposal.operator,
        parent_ids=proposal.parents,
        truncated=parent.candidate.truncated,
    )
    return Sampled(
        problem_id=candidate.problem_id,
        proposal=proposal,
        candidate=candidate,
        attempt=attempt,
        seed=0,
        finish_reason=None,
        prompt_tokens=0,
        completion_tokens=0,
        tokens_estimated=False,
        transcript=Transcript(prompt="", completion=""),
    )


def labelled(verdict: Verdict, *, parent: Observation) -> Verdict:
    """The verdict on a candidate that was mended from `parent`, with a label for each rule that had a part in it."""
    labels = tuple(f"{FIXED_BY}{rule}" for rule in rules(parent.verdict.findings))
    return dataclasses.replace(verdict, labels=(*verdict.labels, *labels))
