"""A run that is cut off at any event resumes to the same proposals, whatever its strategy: controller, ledger and all.

The models and judges are scripted: what they say depends on the proposal alone, and passes, failures of several kinds,
fixable ones and repeated programs are among it. `tests/strategies/test_contract.py` holds the strategies by themselves
to the same.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.events import Outcome, Proposed
from agent.ledger import Ledger
from agent.ledger_rows import JOURNAL
from sandbox.types import Candidate, Finding, Status, Verdict, content_hash
from strategies import STRATEGIES, Strategy
from tests.agent.scripted_run import Bench, ScriptedPool, ScriptedSampler, plan_of, program, verdict_on

INFORMED = {"in_flight": 1, "stop_when_passed": False, "fix": True, "tune": 0}
OPTIONS: dict[str, dict[str, Any]] = {
    "best_of_n": {"in_flight": 1, "stop_when_passed": False, "fix": False},
    "repair": {**INFORMED, "max_repairs": 2},
    "beam": {**INFORMED, "width": 2, "branch": 2, "depth": 2},
    "evolve": {
        **INFORMED, "islands": 2, "founders": 2, "migrate_every": 3, "draft_share": 0.2, "merge_share": 0.3,
    },
    "ab_mcts": {**INFORMED, "virtual_loss": 0.7},
    "portfolio": {
        **INFORMED,
        "costs": {"draft": 1.0, "repair": 1.5, "improve": 1.5, "merge": 2.0},
        "members": [{**INFORMED, "name": "beam", "width": 1, "branch": 2, "depth": 2}],
    },
}  # fmt: skip
SAMPLES = 14
STATUSES = (Status.PASSED, Status.WRONG_VALUES, Status.COMPILE_ERROR, Status.TRACE_ERROR)


def new_strategy(name: str, seed: int) -> Strategy:
    return STRATEGIES[name](seed=seed, **OPTIONS[name])


def judged(candidate: Candidate) -> Verdict:
    """By a hash of the program. Every third failure has a finding, whose replacement mends a word."""
    luck = int(content_hash(candidate.source)[:6], 16)
    verdict = verdict_on(candidate, status=STATUSES[luck % 4], speedup=1.0 + luck % 7 / 4)
    start = candidate.source.find("broken")
    if verdict.passed or luck % 3 or start < 0:
        return verdict
    finding = Finding(rule="r", start=start, end=start + 6, found="broken", instead="mended", message="m")
    return replace(verdict, findings=(finding,))


def sampler() -> ScriptedSampler:
    """Every tenth or so repeats a program."""

    def answer(request: Any) -> str:
        luck = int(content_hash(request.proposal.id)[:6], 16)
        return program(f"made_by = 'broken {'again' if luck % 10 == 0 else request.proposal.id}'")

    return ScriptedSampler(answer)


def run(root: Path, name: str) -> Outcome:
    plan = plan_of(new_strategy=lambda seed: new_strategy(name, seed), samples=SAMPLES)
    return Bench(root).run(plan, sampler=sampler(), pool=ScriptedPool(judged), sampling_slots=1).outcome


def proposals(root: Path) -> list[tuple[str, Sequence[str]]]:
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        events = [entry.event for entry in ledger.events()]
    return [(event.proposal.id, event.proposal.parents) for event in events if isinstance(event, Proposed)]


def cut(whole: Path, to: Path, *, keep: int) -> None:
    """A copy of the run as it stood after `keep` events: what a kill leaves behind."""
    shutil.copytree(whole, to)
    connection = sqlite3.connect(to / "ledger.sqlite")
    last = sorted(seq for table in JOURNAL for (seq,) in connection.execute(f"SELECT seq FROM {table}"))[keep - 1]
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("DELETE FROM transcripts WHERE seq > ?", (last,))
    for table in JOURNAL:
        connection.execute(f"DELETE FROM {table} WHERE seq > ?", (last,))
    connection.execute("DELETE FROM best")
    connection.execute("DELETE FROM candidates WHERE id NOT IN (SELECT candidate_id FROM sampled)")
    connection.commit()
    connection.close()


def test_every_strategy_is_tried() -> None:
    assert set(OPTIONS) == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_resumes_from_any_prefix_of_the_ledger_to_the_same_proposals(name: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole, name) is Outcome.COMPLETED
    wanted = proposals(whole)
    assert len(wanted) >= SAMPLES
    with Ledger.open_read_only(whole / "ledger.sqlite") as ledger:
        num_events = sum(1 for _ in ledger.events())
    for keep in sorted({1, 2, 3, *range(4, num_events, 5), num_events - 1}):
        rest = tmp_path / f"after-{keep}"
        cut(whole, rest, keep=keep)
        assert run(rest, name) is Outcome.COMPLETED
        assert proposals(rest) == wanted, f"after {keep} of {num_events} events"


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"best_of_n"}))
def test_what_is_tried_here_is_more_than_drafts(name: str, tmp_path: Path) -> None:
    """Else the test above would hold for a strategy that forgets all it was told."""
    (tmp_path / "run").mkdir()
    run(tmp_path / "run", name)
    operators = {id.split("-")[0] for id, _ in proposals(tmp_path / "run")}
    assert {"draft", "fix"} < operators
