"""A pool that judges by words in the texts, and a problem for it: no sandbox and no model."""

from __future__ import annotations

from agent.pool import Confirmation, PoolError
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Correctness, Failure, Problem, Spend, Status, Verdict

PROBLEM = """import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x


def get_inputs():
    return [torch.rand(4)]


def get_init_inputs():
    return []
"""


class WordPool:
    """Passes a candidate that says GOOD, faults on one that says FAULT, fails the rest.

    A problem that says INADMISSIBLE cannot be judged.
    """

    capacity = 2

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        if "FAULT" in candidate.source:
            raise PoolError("the worker died three times")
        if "INADMISSIBLE" in problem.source:
            raise ProblemFailed("the reference does not agree with itself")
        if "GOOD" in candidate.source:
            return Verdict(
                candidate_id=candidate.id,
                status=Status.PASSED,
                correctness=Correctness(
                    checked_by="interpret", seeds=(1, 2), weights="none", max_error_ratio=0.2, rms_error_ratio=0.1
                ),
                plan_hash="p",
                spend=Spend(judged=1),
            )
        failure = Failure(error_class="WrongValues", message="half of the values are wrong")
        return Verdict(
            candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure, feedback="half are wrong"
        )

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        return Confirmation(verdict=await self.judge(problem, candidate), plan=None)

    async def close(self) -> None:
        return None
