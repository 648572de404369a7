"""Making examples: shards are whole or absent, a killed run goes on, and only what the judge passes is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.feedback import MAX_FEEDBACK_CHARACTERS
from sandbox.types import Candidate, Correctness, Failure, Operator, Status, Verdict
from standin import make, verify
from standin.breaking import broken_further
from standin.examples import Example, read_examples, write_examples
from standin.make import SHARD_SEEDS, Order, StaleShard, make_shard, shard_path
from standin.pairs import Pair, pair
from standin.verify import Verifier

Says = Callable[[str, str], Status]


class ScriptedVerifier:
    """Judges by a rule of the test's, and counts."""

    def __init__(self, says: Says) -> None:
        self._says, self.num_judged = says, 0

    def verdict(self, problem: str, source: str) -> Verdict:
        self.num_judged += 1
        candidate = Candidate(problem_id="p", source=source, operator=Operator.DRAFT)
        status = self._says(problem, source)
        if status is Status.PASSED:
            figures = Correctness(
                checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.0, rms_error_ratio=0.0
            )
            return Verdict(
                candidate_id=candidate.id, status=status, correctness=figures, plan_hash="h", labels=("triton",)
            )
        failure = Failure(error_class="Error", message="wrong")
        return Verdict(candidate_id=candidate.id, status=status, failure=failure, feedback=f"It is {status}.")

    def close(self) -> None: ...


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Says], ScriptedVerifier]:
    def use(says: Says) -> ScriptedVerifier:
        verifier = ScriptedVerifier(says)
        monkeypatch.setattr(verify, "_opened", verifier)
        return verifier

    return use


def _right(first: int) -> set[tuple[str, str]]:
    made = (pair(seed, split="train") for seed in range(first, first + SHARD_SEEDS))
    return {(each.problem, each.answer) for each in made}


def _judges_by_pair(first: int) -> Says:
    right = _right(first)
    return lambda problem, source: Status.PASSED if (problem, source) in right else Status.WRONG_VALUES


def test_a_shard_holds_verified_drafts_once_and_repairs_with_the_judges_words(
    tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]
) -> None:
    scripted(_judges_by_pair(0))
    order = Order(split="train", out=tmp_path, repairs=2.0)
    tally = make_shard(0, order=order)
    examples = read_examples(shard_path(order, 0))
    drafts = [(e.problem, e.answer) for e in examples if e.kind == "draft"]
    repairs = [e for e in examples if e.kind == "repair"]
    assert sorted(drafts) == sorted(_right(0))
    assert tally.verified.total() == len(drafts) and tally.repeated == SHARD_SEEDS - len(drafts)
    assert {(e.attempt, e.feedback) for e in repairs} == {
        (broken_further(pair(e.seed, split="train"), seed=number).source, "It is wrong_values.")
        for e in repairs
        for number in range(2)
    }
    assert not tally.refused and len(repairs) == tally.num_repairs() > 1.9 * len(drafts)


def test_what_is_there_is_not_made_again(tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]) -> None:
    order = Order(split="train", out=tmp_path, repairs=0.0)
    scripted(_judges_by_pair(0))
    first = make_shard(0, order=order)
    later = scripted(lambda problem, source: Status.TIMEOUT)
    assert make_shard(0, order=order) == first and later.num_judged == 0


def test_a_folder_of_another_generator_is_refused(tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]) -> None:
    scripted(_judges_by_pair(0))
    make_shard(0, order=Order(split="train", out=tmp_path, repairs=0.0))
    with pytest.raises(StaleShard, match="another folder"):
        make_shard(0, order=Order(split="train", out=tmp_path, repairs=1.0))


def test_a_run_that_dies_within_a_shard_leaves_none(
    tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]
) -> None:
    def dies(problem: str, source: str) -> Status:
        raise KeyboardInterrupt

    scripted(dies)
    order = Order(split="train", out=tmp_path, repairs=0.0)
    with pytest.raises(KeyboardInterrupt):
        make_shard(0, order=order)
    assert list(tmp_path.glob("*.jsonl")) == []


def test_no_shard_is_begun_after_the_deadline(tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]) -> None:
    scripted(lambda problem, source: Status.PASSED)
    order, firsts = Order(split="train", out=tmp_path, repairs=0.0), range(0, 3 * SHARD_SEEDS, SHARD_SEEDS)
    assert list(make.make(firsts, order=order, workers=1, deadline=time.monotonic())) == []
    assert len(list(make.make(firsts, order=order, workers=1, deadline=time.monotonic() + 600))) == 3


def test_a_pair_that_does_not_pass_is_told_and_not_written(
    tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]
) -> None:
    bad = pair(0, split="train")
    scripted(lambda problem, source: Status.COMPILE_ERROR if problem == bad.problem else Status.PASSED)
    order = Order(split="train", out=tmp_path, repairs=1.0)
    tally = make_shard(0, order=order)
    assert {(refusal.seed // 3, refusal.status) for refusal in tally.refused} == {(0, "compile_error")}
    assert bad.problem not in {example.problem for example in read_examples(shard_path(order, 0))}


def test_the_command_ends_with_1_where_a_pair_was_refused(
    tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["make", "--split", "held_out", "--count", "1", "--out", str(tmp_path), "--repairs", "0"]
    monkeypatch.setattr("sys.argv", arguments)
    scripted(lambda problem, source: Status.TIMEOUT)
    with pytest.raises(SystemExit, match="1"):
        make.main()
    assert "REFUSED timeout: seed 0" in (tmp_path / "held_out-summary.txt").read_text(encoding="utf-8")


def test_broken_answers_that_pass_or_cannot_be_checked_are_no_repairs(
    tmp_path: Path, scripted: Callable[[Says], ScriptedVerifier]
) -> None:
    right = _right(0)
    scripted(
        lambda problem, source: (
            Status.PASSED if (problem, source) in right else (Status.UNVERIFIED if "tanh" in source else Status.PASSED)
        )
    )
    order = Order(split="train", out=tmp_path, repairs=1.0)
    tally = make_shard(0, order=order)
    assert tally.num_repairs() == 0
    assert {example.kind for example in read_examples(shard_path(order, 0))} == {"draft"}


def _one_of(*families: str) -> list[Pair]:
    made = (pair(seed, split="held_out") for seed in range(200))
    return list({each.family: each for each in made if each.family in families}.values())


def test_the_judge_passes_pairs_and_fails_a_broken_one() -> None:
    with Verifier() as verifier:
        pairs = _one_of("norm", "matmul_rows")
        verdicts = {made.family: verifier.verdict(made.problem, made.answer) for made in pairs}
        assert {family: v.status for family, v in verdicts.items()} == dict.fromkeys(verdicts, Status.PASSED)
        slip = pairs[0].answer.replace("        return ", "        ")
        told = verifier.verdict(pairs[0].problem, slip)
    assert told.status is Status.TRACE_ERROR
    assert 0 < len(told.feedback) <= MAX_FEEDBACK_CHARACTERS  # so that a prompt carries the whole of it


def test_examples_keep_what_they_are_given(tmp_path: Path) -> None:
    example = Example(kind="draft", seed=1, split="train", family="f", problem="p", answer="a\n")
    write_examples([example], tmp_path / "x.jsonl")
    assert read_examples(tmp_path / "x.jsonl") == [example]
