"""Evaluation with a scripted sampler and judge: what is asked, what is kept, and the figures that follow."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from random import Random

import pytest

from agent.prompts import in_characters, load_prompt_writer
from agent.sampler import Completion, SampleRequest, SamplerError
from sandbox.tracer import ProblemFailed
from sandbox.types import Candidate, Correctness, Failure, Operator, Problem, Status, Verdict
from standin.evaluate import Evaluator, problems_of, split_and_seeds, split_of, take_drafts
from standin.evaluation import RecordError, Sample, SampleFile, SampleKey, evaluation_of, read_samples, to_repair
from standin.evaluation_page import evaluation_page
from standin.pairs import pair
from standin.prompt_files import TEMPLATES

PROBLEMS = [Problem(id=name, source=f"# {name}\n", origin="test") for name in ("first", "second")]
WORKS = "import torch\n\nclass ModelNew: works = True\n"
FAILS = "import torch\n\nclass ModelNew: works = False\n"


GROUPS = {"first": "train", "second": "held_out"}


class ScriptedSampler:
    """Drafts number 0 and 2 work, and so does every repair of the first problem. Breaks when asked once too often."""

    def __init__(self, *, most: int = 1000) -> None:
        self.asked: list[SampleRequest] = []
        self._most = most

    async def sample(self, request: SampleRequest) -> Completion:
        await asyncio.sleep(0)
        if len(self.asked) >= self._most:
            raise SamplerError("the model is gone")
        self.asked.append(request)
        repairing = request.proposal.operator is Operator.REPAIR
        works = request.problem.id == "first" if repairing else request.ordinal in (0, 2)
        cut_off = not repairing and request.ordinal == 3
        return Completion(
            text=WORKS if works else FAILS,
            finish_reason="length" if cut_off else "stop",
            prompt_tokens=30 if repairing else 10,
            completion_tokens=20,
        )

    async def close(self) -> None: ...


class ScriptedJudge:
    """Believes what the candidate says of itself."""

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        if "works = True" in candidate.source:
            figures = Correctness(
                checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1
            )
            return Verdict(candidate_id=candidate.id, status=Status.PASSED, correctness=figures, plan_hash="p")
        failure = Failure(error_class="", message="")
        feedback = f"{problem.id}: all values are wrong"
        return Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, feedback=feedback, failure=failure)


def evaluate(
    path: Path,
    sampler: ScriptedSampler,
    *,
    num_drafts: int,
    most: int,
    deadline: float = math.inf,
    judge: ScriptedJudge | None = None,
    only: set[SampleKey] | None = None,
) -> dict[SampleKey, Sample]:
    """On a clock that counts the answers asked for."""
    file = SampleFile(path)
    writer = load_prompt_writer(None, limit=in_characters(10_000), checkpoint=TEMPLATES)
    evaluator = Evaluator(
        sampler=sampler, pool=judge or ScriptedJudge(), render=writer.render, file=file, slots=3, seed=5,
        tell=lambda _: None, clock=lambda: len(sampler.asked),
    )  # fmt: skip

    async def work() -> None:
        await evaluator.draft(PROBLEMS, num_drafts=num_drafts, deadline=deadline)
        await evaluator.repair(PROBLEMS, num_drafts=num_drafts, most=most, only=only)

    try:
        asyncio.run(work())
    finally:
        file.close()
    return file.samples


def test_failed_drafts_are_repaired_from_the_judges_words(tmp_path: Path) -> None:
    sampler = ScriptedSampler()
    samples = evaluate(tmp_path / "samples.jsonl", sampler, num_drafts=4, most=5)
    repairs = [request for request in sampler.asked if request.proposal.operator is Operator.REPAIR]
    # Number 1 of each problem: number 3 failed, too, but was cut off.
    assert sorted(key for key in samples if key[1] is Operator.REPAIR) == [
        ("first", Operator.REPAIR, 1),
        ("second", Operator.REPAIR, 1),
    ]
    for request in repairs:
        assert f"{request.problem.id}: all values are wrong" in request.prompt
        assert [parent.source for parent in request.parents] == [FAILS]
    assert len({request.seed for request in sampler.asked}) == len(sampler.asked) == 10


def test_an_evaluation_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    whole = evaluate(tmp_path / "whole.jsonl", ScriptedSampler(), num_drafts=4, most=4)
    broken = ScriptedSampler(most=5)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        evaluate(tmp_path / "parts.jsonl", broken, num_drafts=4, most=4)
    with (tmp_path / "parts.jsonl").open("ab") as file:
        file.write(b'{"problem": "fir')  # as a kill in mid-line leaves it
    kept = len(read_samples(tmp_path / "parts.jsonl"))
    rest = ScriptedSampler()
    assert evaluate(tmp_path / "parts.jsonl", rest, num_drafts=4, most=4) == whole
    assert 0 < kept == 10 - len(rest.asked)
    seeds = {(r.problem.id, r.proposal.id): r.seed for r in broken.asked}
    assert all(seeds.get((r.problem.id, r.proposal.id), r.seed) == r.seed for r in rest.asked)


def test_figures(tmp_path: Path) -> None:
    samples = evaluate(tmp_path / "samples.jsonl", ScriptedSampler(), num_drafts=4, most=5)
    found = evaluation_of(samples.values(), groups=GROUPS, num_drafts=4, seed=0)
    assert {k: estimate.value for k, estimate in found.pass_at.items()} == pytest.approx({1: 0.5, 2: 5 / 6, 4: 1.0})
    assert {group: estimate.value for group, estimate in found.pass_at_1_of.items()} == {"train": 0.5, "held_out": 0.5}
    assert found.statuses == {"passed": 4, "wrong_values": 4}
    assert (found.num_asked, found.num_problems, found.truncated) == (2, 2, 2)
    assert found.num_repairs == 2 and found.mended is not None and found.mended.value == 0.5
    everything, written = found.comparisons
    # A repair costs 50 tokens, a draft 30 with its prompt and 20 without, and of the three others two pass.
    for comparison, cost, spend in ((everything, 30, 50), (written, 20, 20)):
        assert (comparison.repaired.value, comparison.compared, comparison.left_out) == (0.5, 2, 0)
        second = min(1.0, (spend - cost) / cost)  # the share of a second draft that is paid for
        assert comparison.redrawn.value in [pytest.approx((a + b) / 2) for a in (1, second) for b in (1, second)]
        assert comparison.difference.value == pytest.approx(0.5 - comparison.redrawn.value)
        assert comparison.difference.low <= comparison.difference.value <= comparison.difference.high


def drawn(problem: str, number: int, *, passed: bool, repair: bool = False, cost: int = 100) -> Sample:
    return Sample(
        problem=problem, operator=Operator.REPAIR if repair else Operator.DRAFT, number=number,
        status=Status.PASSED if passed else Status.WRONG_VALUES, truncated=False, prompt_tokens=0,
        completion_tokens=cost, finish_reason="stop", completion="", source=WORKS, feedback="",
    )  # fmt: skip


@pytest.mark.parametrize(("cost", "worth"), [(100, 0.0), (100, 0.3), (200, 0.0)])
def test_a_repair_that_is_worth_a_draft_compares_as_one(cost: int, worth: float) -> None:
    """A model whose repairs pass as often as drafts of the same problem for as many tokens, and then `worth` more."""
    rng, samples = Random(1), list[Sample]()
    names = [f"p{number}" for number in range(700)]
    for name in names:
        chance = rng.choice((0.05, 0.2, 0.4, 0.6, 0.65))
        drafts = [drawn(name, number, passed=rng.random() < chance) for number in range(6)]
        of_repair = 1 - (1 - chance) ** (cost // 100) + worth
        samples += drafts
        samples += [
            drawn(name, failed.number, passed=rng.random() < of_repair, repair=True, cost=cost)
            for failed in to_repair(drafts, most=3, seed=0)
        ]
    found = evaluation_of(samples, groups=dict.fromkeys(names, "held_out"), num_drafts=6, seed=0)
    _, written = found.comparisons
    assert written.left_out == 0 and written.compared == found.num_repairs > 1_000
    assert written.difference.value == pytest.approx(worth, abs=0.045)


def test_what_is_repaired_is_chosen_without_a_look_at_the_other_drafts() -> None:
    """Else where few fail each failure would be repaired, and be compared with drafts that pass."""
    few = [drawn("p", number, passed=number != 2) for number in range(6)]
    many = [drawn("p", number, passed=False) for number in range(6)]
    chosen = {draft.number for draft in to_repair(many, most=3, seed=4)}
    assert len(chosen) == 3 and {d.number for d in to_repair(few, most=3, seed=4)} == chosen & {2}
    assert len({tuple(d.number for d in to_repair(many, most=1, seed=seed)) for seed in range(40)}) == 6


def test_failures_that_cannot_be_compared_count_among_the_mended() -> None:
    drafts = [drawn("p", 0, passed=False), drawn("p", 1, passed=True)]
    repair = drawn("p", 0, passed=True, repair=True, cost=101)
    found = evaluation_of([*drafts, repair], groups={"p": "held_out"}, num_drafts=2, seed=0)
    assert found.mended is not None and (found.mended.value, found.num_repairs) == (1.0, 1)
    assert found.comparisons == ()
    assert "Mended by one repair: 100.0 % (100.0 to 100.0) of 1 failures." in evaluation_page(found)


def test_another_evaluation_repairs_the_same_drafts(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    before = evaluate(tmp_path / "first" / "samples.jsonl", ScriptedSampler(), num_drafts=4, most=4)
    file = SampleFile(tmp_path / "second" / "samples.jsonl")
    only = take_drafts(tmp_path / "first", file)
    file.close()
    assert only == {key for key in before if key[1] is Operator.REPAIR} and len(only) == 2
    assert file.samples == {key: sample for key, sample in before.items() if key not in only}
    only.discard(("second", Operator.REPAIR, 1))
    again = ScriptedSampler()
    evaluate(tmp_path / "second" / "samples.jsonl", again, num_drafts=4, most=0, only=only)
    assert [(r.problem.id, r.proposal.id) for r in again.asked] == [("first", "repair-1")]


def test_the_page_tells_the_figures(tmp_path: Path) -> None:
    samples = evaluate(tmp_path / "samples.jsonl", ScriptedSampler(), num_drafts=4, most=5)
    page = evaluation_page(evaluation_of(samples.values(), groups=GROUPS, num_drafts=4, seed=0))
    assert "2 problems of 2, 4 drafts each" in page
    assert "| 2 | 83.3 % (83.3 to 83.3) |" in page and "| 1, held_out alone | 50.0 % (50.0 to 50.0) |" in page
    assert "Drafts: passed 4, wrong_values 4." in page
    assert "Mended by one repair: 50.0 % (0.0 to 100.0) of 2 failures." in page
    assert "| completion | 2 (0 left out) | 50.0 % (0.0 to 100.0) | " in page
    without = evaluation_page(
        evaluation_of((s for s in samples.values() if s.number != 1), groups=GROUPS, num_drafts=1, seed=0)
    )
    assert "Repairs" not in without


def test_when_time_is_over_what_was_begun_is_finished_and_the_rest_is_left(tmp_path: Path) -> None:
    samples = evaluate(tmp_path / "samples.jsonl", ScriptedSampler(), num_drafts=5, most=0, deadline=1.0)
    numbers = {name: [key[2] for key in samples if key[0] == name] for name in GROUPS}
    # Three are sampled at a time and as many judged, so six had begun when the first was asked for.
    assert (sorted(numbers["first"]), numbers["second"]) == ([0, 1, 2, 3, 4], [0])
    found = evaluation_of(samples.values(), groups=GROUPS, num_drafts=5, seed=0)
    assert (found.num_asked, found.num_problems) == (2, 1)


def test_a_problem_that_cannot_be_judged_is_left_out(tmp_path: Path) -> None:
    class Refuses(ScriptedJudge):
        async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
            if problem.id == "first":
                raise ProblemFailed("null programs would pass")
            return await super().judge(problem, candidate)

    samples = evaluate(tmp_path / "samples.jsonl", ScriptedSampler(), num_drafts=2, most=1, judge=Refuses())
    found = evaluation_of(samples.values(), groups=GROUPS, num_drafts=2, seed=0)
    assert {key[0] for key in samples} == {"second"} and (found.num_asked, found.num_problems) == (2, 1)


def test_problems_of_several_splits_come_in_turn_and_tell_their_split() -> None:
    seeds = [split_and_seeds(text) for text in ("held_out:0..3", "longer:5..7", "train:1..2")]
    problems = problems_of(seeds)
    assert [split_of(problem.id) for problem in problems] == [
        "held_out", "longer", "train", "held_out", "longer", "held_out",
    ]  # fmt: skip
    assert problems[1].source == pair(5, split="longer").problem
    with pytest.raises(ValueError, match="write FIRST"):
        split_and_seeds("train:5..5")
    with pytest.raises(ValueError, match="names none of train, held_out, longer"):
        split_and_seeds("trains:0..5")


def test_a_problem_that_lacks_drafts_is_left_out(tmp_path: Path) -> None:
    samples = evaluate(tmp_path / "samples.jsonl", ScriptedSampler(), num_drafts=3, most=1)
    del samples["first", Operator.DRAFT, 2]
    assert evaluation_of(samples.values(), groups=GROUPS, num_drafts=3, seed=0).num_problems == 1
    with pytest.raises(RecordError, match="no problem has 9 drafts"):
        evaluation_of(samples.values(), groups=GROUPS, num_drafts=9, seed=0)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"problem": "first"}\n')
    with pytest.raises(RecordError, match=r"samples\.jsonl:1"):
        read_samples(tmp_path / "samples.jsonl")
