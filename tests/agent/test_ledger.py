"""What the ledger keeps, refuses and forgets."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.events import (
    Attempt,
    DurableEvent,
    EndReason,
    Judged,
    Proposed,
    Sampled,
    SearchEnded,
    Transcript,
    Unsampled,
)
from agent.ledger import Ledger, LedgerError, LedgerInUse, ResumeError, judging, sampling
from agent.search import standings
from sandbox.types import (
    Candidate,
    Correctness,
    Failure,
    Mismatch,
    Operator,
    Performance,
    Proposal,
    Spend,
    Status,
    Verdict,
)

DRAFT = Proposal(id="draft-0", operator=Operator.DRAFT)
CANDIDATE = Candidate(problem_id="p", source="x = 1\n", operator=Operator.DRAFT)
REPAIR = Proposal(id="repair-1", operator=Operator.REPAIR, parents=(CANDIDATE.id,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def failed(candidate: Candidate) -> Verdict:
    mismatch = Mismatch(output="output", share_wrong=0.5, first_bad_index=(0, 3), expected=1.0, got=float("inf"))
    failure = Failure(error_class="WrongValues", message="half is wrong", mismatch=mismatch)
    return Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure, feedback="50 % are wrong")


def passed(candidate: Candidate, *, speedup: float | None) -> Verdict:
    timing = None
    if speedup is not None:
        timing = Performance(
            runtime_us=1.0,
            baseline_us={"eager": speedup},
            against="eager",
            speedup=speedup,
            speedup_low=speedup,
            speedup_high=speedup,
            repetitions=3,
        )
    return Verdict(
        candidate_id=candidate.id,
        status=Status.PASSED,
        plan_hash="h",
        correctness=Correctness(
            checked_by="replay", seeds=(1, 2), weights="none", max_error_ratio=0.1, rms_error_ratio=None
        ),
        performance=timing,
        spend=Spend(gpu_seconds=0.25),
    )


def sampled(proposal: Proposal, candidate: Candidate, *, attempt: Attempt) -> Sampled:
    return Sampled(
        problem_id=candidate.problem_id,
        proposal=proposal,
        candidate=candidate,
        attempt=attempt,
        seed=7,
        finish_reason="stop",
        prompt_tokens=10,
        completion_tokens=5,
        tokens_estimated=False,
        transcript=Transcript(prompt="do it", completion="```\nx = 1\n```"),
    )


def story(attempt: Attempt) -> list[DurableEvent]:
    """A draft that fails, a repair that the sampler has no answer for, and the end."""
    return [
        Proposed(problem_id="p", proposal=DRAFT),
        sampled(DRAFT, CANDIDATE, attempt=attempt),
        Judged(problem_id="p", verdict=failed(CANDIDATE), attempt=attempt),
        Proposed(problem_id="p", proposal=REPAIR),
        Unsampled(problem_id="p", proposal=REPAIR, attempt=attempt, reason="no more"),
        SearchEnded(problem_id="p", end=EndReason.BUDGET, detail="samples"),
    ]


def judge_new(ledger: Ledger, *, number: int, speedup: float | None) -> Candidate:
    """Takes one more passing candidate through the ledger."""
    first = Attempt(epoch=ledger.epoch, number=1)
    proposal = Proposal(id=f"draft-{number}", operator=Operator.DRAFT)
    candidate = Candidate(problem_id="p", source=f"x = {number}\n", operator=Operator.DRAFT)
    ledger.append([Proposed(problem_id="p", proposal=proposal)], seconds=0.0)
    ledger.append([sampled(proposal, candidate, attempt=first)], seconds=0.0)
    ledger.append([Judged(problem_id="p", verdict=passed(candidate, speedup=speedup), attempt=first)], seconds=0.0)
    return candidate


def test_events_come_back_as_they_were_and_in_order(path: Path) -> None:
    with Ledger.open(path) as ledger:
        written = story(Attempt(epoch=ledger.epoch, number=1))
        for seconds, event in enumerate(written):
            ledger.append([event], seconds=seconds)
    with Ledger.open_read_only(path) as ledger:
        entries = list(ledger.events())
        assert ledger.transcript("p", DRAFT) == Transcript(prompt="do it", completion="```\nx = 1\n```")
        assert ledger.transcript("p", REPAIR) is None
        assert ledger.observation(CANDIDATE.id).verdict == failed(CANDIDATE)
    assert [entry.seconds for entry in entries] == [0, 1, 2, 3, 4, 5]
    without_texts = [entry.event for entry in entries]
    assert without_texts[0] == written[0]
    assert without_texts[2:] == written[2:]
    assert isinstance(without_texts[1], Sampled)
    assert without_texts[1].candidate == CANDIDATE
    assert without_texts[1].num_tokens == 15


def test_a_group_is_written_whole_or_not_at_all(path: Path) -> None:
    with Ledger.open(path) as ledger:
        attempt = Attempt(epoch=ledger.epoch, number=1)
        with pytest.raises(LedgerError, match="UNIQUE"):
            ledger.append([*story(attempt), Proposed(problem_id="p", proposal=DRAFT)], seconds=0.0)
        assert list(ledger.events()) == []
        ledger.append(story(attempt), seconds=0.0)
        assert len(list(ledger.events())) == 6


def test_the_same_program_is_one_candidate_and_needs_one_verdict(path: Path) -> None:
    again = Proposal(id="draft-1", operator=Operator.DRAFT)
    with Ledger.open(path) as ledger:
        attempt = Attempt(epoch=ledger.epoch, number=1)
        ledger.append([*story(attempt), Proposed(problem_id="p", proposal=again)], seconds=0.0)
        ledger.append([sampled(again, CANDIDATE, attempt=attempt)], seconds=0.0)
        with pytest.raises(LedgerError, match="not open"):
            ledger.append([Judged(problem_id="p", verdict=failed(CANDIDATE), attempt=attempt)], seconds=0.0)
        spend = standings(ledger.events())["p"].spend
    assert (spend.samples, spend.judged, spend.tokens) == (2, 1, 30)


def test_a_result_of_an_earlier_epoch_is_refused(path: Path) -> None:
    with Ledger.open(path) as ledger:
        stale = Attempt(epoch=ledger.epoch, number=1)
        ledger.append([Proposed(problem_id="p", proposal=DRAFT), sampled(DRAFT, CANDIDATE, attempt=stale)], seconds=0.0)
        ledger.append([Proposed(problem_id="p", proposal=REPAIR)], seconds=0.0)
    with Ledger.open(path) as ledger:
        works = [judging(CANDIDATE.id), sampling("p", REPAIR)]
        judge_attempt, sample_attempt = ledger.begin_attempts(works)
        assert judge_attempt == sample_attempt == Attempt(epoch=stale.epoch + 1, number=2)
        with pytest.raises(LedgerError, match="refused"):
            ledger.append([Judged(problem_id="p", verdict=failed(CANDIDATE), attempt=stale)], seconds=0.0)
        ledger.append([Judged(problem_id="p", verdict=failed(CANDIDATE), attempt=judge_attempt)], seconds=0.0)


def test_the_best_is_the_fastest_and_of_equals_the_first(path: Path) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.best() == {}
        untimed = judge_new(ledger, number=1, speedup=None)
        judge_new(ledger, number=2, speedup=None)
        assert ledger.best() == {"p": untimed.id}
        fast = judge_new(ledger, number=3, speedup=2.0)
        judge_new(ledger, number=4, speedup=2.0)
        judge_new(ledger, number=5, speedup=1.0)
        assert ledger.best() == {"p": fast.id}
        standing = standings(ledger.events())["p"]
    assert standing.best is not None
    assert standing.best.candidate_id == fast.id
    assert standing.num_by_status == {Status.PASSED: 5}
    assert standing.spend.gpu_seconds == 1.25


def test_wall_seconds_add_up_over_epochs(path: Path) -> None:
    for seconds in (3.0, 4.0):
        with Ledger.open(path) as ledger:
            proposal = Proposal(id=f"draft-{ledger.epoch}", operator=Operator.DRAFT)
            ledger.append([Proposed(problem_id="p", proposal=proposal)], seconds=seconds)
    with Ledger.open_read_only(path) as ledger:
        assert standings(ledger.events())["p"].spend.wall_seconds == 7.0


def test_one_process_writes_while_others_read(path: Path) -> None:
    code = "import sys; from agent.ledger import Ledger; Ledger.open(sys.argv[1])"
    with Ledger.open(path) as ledger:
        second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert LedgerInUse.__name__ in second.stderr
        ledger.append([Proposed(problem_id="p", proposal=DRAFT)], seconds=0.0)
        with Ledger.open_read_only(path) as reader:
            assert len(list(reader.events())) == 1
            with pytest.raises(LedgerError, match="readonly"):
                reader.append([Proposed(problem_id="p", proposal=REPAIR)], seconds=0.0)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_other_problems_are_refused_on_resume(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.record_problems({"p": "1", "q": "2"})
    with Ledger.open(path) as ledger:
        ledger.record_problems({"q": "2", "p": "1"})
        with pytest.raises(ResumeError, match=r"other problems \(added: r; changed: q\); a resume needs"):
            ledger.record_problems({"p": "1", "q": "3", "r": "4"})
        others = {f"r{number:02}": "4" for number in range(43)}
        with pytest.raises(ResumeError, match=r"other problems \(added: r00, .*, r39 and 3 more; gone: p, q\);"):
            ledger.record_problems(others)


@pytest.mark.parametrize("damage", ["pages", "verdict", "reason"])
def test_a_damaged_ledger_is_named(path: Path, damage: str) -> None:
    with Ledger.open(path) as ledger:
        ledger.append(story(Attempt(epoch=ledger.epoch, number=1)), seconds=0.0)
    if damage == "pages":
        raw = path.read_bytes()
        path.write_bytes(raw[:4096] + b"x" * (len(raw) - 4096))
    else:
        changes = {"verdict": "UPDATE judged SET verdict = '{}'", "reason": "UPDATE ended SET reason = 'tired'"}
        connection = sqlite3.connect(path)
        connection.execute(changes[damage])
        connection.commit()
        connection.close()
    with pytest.raises(LedgerError, match=r"ledger\.sqlite: "), Ledger.open_read_only(path) as reader:
        list(reader.events())


def test_another_schema_or_no_ledger_is_refused(path: Path) -> None:
    with pytest.raises(LedgerError, match=r"has no ledger\.sqlite: the run had not begun"):
        Ledger.open_read_only(path)
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for opening in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(LedgerError, match="schema version 99"):
            opening(path)
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger.open(path)


def test_token_ids_come_back_whole_and_small_and_so_does_who_answered(path: Path) -> None:
    dice = random.Random(0)
    ids = (0, 2**32 - 1, *(dice.choice((dice.randrange(300), dice.randrange(128_000))) for _ in range(1500)))
    with Ledger.open(path) as ledger:
        attempt = Attempt(epoch=ledger.epoch, number=1)
        ledger.append([Proposed(problem_id="p", proposal=DRAFT)], seconds=0.0)
        said = Transcript(prompt="do it", completion="x", token_ids=ids)
        event = sampled(DRAFT, CANDIDATE, attempt=attempt)
        ledger.append([replace(event, transcript=said, sampler="transformers here")], seconds=0.0)
        assert ledger.transcript("p", DRAFT) == said
        assert [entry.event.sampler for entry in ledger.events() if isinstance(entry.event, Sampled)] == [
            "transformers here"
        ]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT length(token_ids) FROM transcripts").fetchone()[0] < 3 * len(ids)
    connection.execute("UPDATE transcripts SET token_ids = x'00'")
    connection.commit()
    connection.close()
    with Ledger.open_read_only(path) as ledger, pytest.raises(LedgerError, match="token ids"):
        ledger.transcript("p", DRAFT)
