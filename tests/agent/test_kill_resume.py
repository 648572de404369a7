"""SIGKILL at random instants loses only what was in flight.

Run as a program, this file is the driver that gets killed: `python test_kill_resume.py FOLDER MOST STATEMENT
CONFIRMATION SAMPLES` works on the run in FOLDER, confirms MOST candidates of a problem, and kills itself at that many
SQL statements (0: never), mostly in the middle of a ledger write, or while it judges for that confirmation (0: never).
The whole run may take SAMPLES (0: no limit).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent.allocator import Uniform
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import EndReason, Event, Outcome, RunStarted, Sampled
from agent.ledger import Ledger
from agent.pool import Confirmation
from agent.run_folder import RunFolder
from agent.sampler import Completion, SampleRequest
from agent.search import standings
from agent.tuning_points import choose_point
from sandbox.types import (
    Budget,
    Candidate,
    Correctness,
    Failure,
    Finding,
    Observation,
    Operator,
    Performance,
    Prices,
    Problem,
    Proposal,
    Spend,
    Status,
    Verdict,
    content_hash,
)
from strategies import Repair
from tests.judge_settings import judge_settings

NUM_PROBLEMS = 24
NUM_SAMPLES = 10
NUM_KILLS = 24
CALL_LOG = "calls.log"
CONFIRM_LOG = "confirmations.log"
BALLAST = "# " + "x" * 20_000  # makes a transaction long enough to be hit


def draw(*parts: str) -> int:
    """A number that depends on `parts` alone."""
    return int(content_hash(*parts)[:8], 16)


class LoggedSampler:
    """Answers as a function of the request, and appends each call to a file before it answers."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def sample(self, request: SampleRequest) -> Completion:
        os.write(self._log, f"{request.problem.id} {request.proposal.id}\n".encode())
        await asyncio.sleep(0.002)
        sources = [parent.source for parent in request.parents]
        number = draw(request.problem.id, request.proposal.operator, str(request.ordinal), *sources)
        text = f"```python\n{BALLAST}\nclass ModelNew:\n    x = {number % 7}\n```"  # few programs, so that some repeat
        reason = "length" if number % 11 == 0 else "stop"
        return Completion(text=text, finish_reason=reason, prompt_tokens=number % 50, completion_tokens=number % 90)

    async def close(self) -> None:
        os.close(self._log)


class DrawnPool:
    """A verdict that depends on the candidate's source alone."""

    capacity = 4

    def __init__(self, log: Path, *, last_confirmation: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._last_confirmation = last_confirmation
        self._num_confirmations = 0

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        await asyncio.sleep(0.001)
        number = draw(problem.id, candidate.source)
        if number % 4 == 0:
            return passed(candidate, speedup=1 + number % 5)
        failure = Failure(error_class="Wrong", message=f"wrong by {number}")
        status = (Status.WRONG_VALUES, Status.COMPILE_ERROR, Status.UNVERIFIED)[number % 3]
        findings = (one_digit_more(candidate.source),) if number % 5 < 2 else ()
        return Verdict(candidate_id=candidate.id, status=status, failure=failure, findings=findings)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        """The same of most; in half of the problems half of the candidates do not hold."""
        os.write(self._log, f"confirm {candidate.id}\n".encode())
        self._num_confirmations += 1
        if self._num_confirmations == self._last_confirmation:
            os.kill(os.getpid(), signal.SIGKILL)
        verdict = await self.judge(problem, candidate)
        if draw(problem.id) % 2:
            return Confirmation(verdict=verdict, plan=None)
        failure = Failure(error_class="Wrong", message="not the second time")
        failed = Verdict(candidate_id=candidate.id, status=Status.WRONG_VALUES, failure=failure)
        return Confirmation(verdict=failed if draw(candidate.id) % 2 else verdict, plan=None)

    async def close(self) -> None:
        os.close(self._log)


def one_digit_more(source: str) -> Finding:
    end = len(source.rstrip())
    return Finding(rule="digits", start=end, end=end, found="", instead="1", message="one digit more")


def passed(candidate: Candidate, *, speedup: float) -> Verdict:
    return Verdict(
        candidate_id=candidate.id,
        status=Status.PASSED,
        plan_hash="h",
        correctness=Correctness(
            checked_by="replay", seeds=(1,), weights="none", max_error_ratio=0.1, rms_error_ratio=0.1
        ),
        performance=Performance(
            runtime_us=1.0,
            baseline_us={"eager": speedup},
            against="eager",
            speedup=speedup,
            speedup_low=speedup,
            speedup_high=speedup,
            repetitions=20,
        ),
    )


def prompt(problem: Problem, proposal: Proposal, parents: tuple[Observation, ...]) -> str:
    return "\n".join([BALLAST, problem.id, proposal.id, *(parent.candidate.source for parent in parents)])


def plan(run_samples: int) -> RunPlan:
    return RunPlan(
        problems=[Problem(id=f"p{n}", source=f"# {n}", origin="test") for n in range(NUM_PROBLEMS)],
        new_strategy=lambda seed: Repair(
            seed=seed, in_flight=1, max_repairs=2, stop_when_passed=False, fix=True, tune=0
        ),
        render=prompt,
        choose_point=choose_point,
        budget=Budget(samples=NUM_SAMPLES),
        run_budget=Budget(samples=run_samples or None),
        prices=Prices(),
        allocator=Uniform(),
        seed=0,
    )


async def drive(root: Path, *, most: int, last_statement: int, last_confirmation: int, run_samples: int) -> Outcome:
    """Works on the run in `root` until it is done or dead. Says so on stdout when the work begins."""
    ledger = Ledger.open(root / "ledger.sqlite")

    def show(event: Event) -> None:
        if isinstance(event, RunStarted):
            os.write(1, b"started\n")

    if last_statement:
        kill_at_statement(ledger, number=last_statement)
    sampler = LoggedSampler(root / CALL_LOG)
    pool, folder = DrawnPool(root / CONFIRM_LOG, last_confirmation=last_confirmation), RunFolder(root)
    folder.write_environment({"gpu": None})
    controller = Controller(
        plan(run_samples),
        sampler=sampler,
        pool=pool,
        ledger=ledger,
        folder=folder,
        confirmer=Confirmer(pool=pool, ledger=ledger, folder=folder, most=most, settings=judge_settings()),
        sampling_slots=4,
        on_event=show,
        clock=time.monotonic,
    )
    summary = await controller.run()
    if summary.error is not None:
        print(summary.error, file=sys.stderr)
    return summary.outcome


def kill_at_statement(ledger: Ledger, *, number: int) -> None:
    count = 0

    def trace(_: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger._connection.set_trace_callback(trace)


class Life:
    """One process of the driver."""

    def __init__(
        self,
        root: Path,
        *,
        most: int = 3,
        last_statement: int = 0,
        last_confirmation: int = 0,
        run_samples: int = 0,
    ) -> None:
        arguments = map(str, (most, last_statement, last_confirmation, run_samples))
        packages = str(Path(sys.modules["agent.ledger"].__file__ or "").parents[1])
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(root), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": packages},
        )

    def kill_after(self, *, delay_seconds: float) -> int:
        """The exit status; counted from when the work begins."""
        assert self._process.stdout is not None
        self._process.stdout.readline()
        time.sleep(delay_seconds)
        self._process.kill()
        return self.wait()

    def wait(self) -> int:
        _, said = self._process.communicate(timeout=60)
        if self._process.returncode not in (0, -signal.SIGKILL):
            print(said.decode()[-4000:])  # why, for whoever reads that the test failed
        return self._process.returncode


Reached = tuple[frozenset[str], Mapping[str, str], frozenset[tuple[str, str]], Mapping[str, Spend]]


def reached(root: Path) -> Reached:
    """The judged candidates, what stands in `best/`, the confirmations, and the spend without wall time."""
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        judged = frozenset(row[0] for row in ledger._connection.execute("SELECT candidate_id FROM judged"))
        confirmed = frozenset(ledger._connection.execute("SELECT candidate_id, status FROM confirmed"))
        found = standings(ledger.events())
        searched = set(ledger.best())
    best = {name: standing.winner.candidate_id for name, standing in found.items() if standing.winner is not None}
    for problem_id, candidate_id in best.items():
        assert candidate_id in RunFolder(root).best(problem_id).read_text()
        assert candidate_id in (RunFolder(root).evidence(problem_id) / "verdict.json").read_text()
    for problem_id in searched - set(best):
        assert not RunFolder(root).best(problem_id).exists(), "what did not hold is not shown as the best"
    return (
        judged,
        best,
        confirmed,
        {name: replace(standing.spend, wall_seconds=0.0) for name, standing in found.items()},
    )


def durably_sampled(root: Path) -> set[str]:
    if not (root / "ledger.sqlite").exists():
        return set()
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        events = [entry.event for entry in ledger.events()]
    sampled = [event for event in events if isinstance(event, Sampled)]
    return {f"{e.problem_id} {e.proposal.id}" for e in sampled if e.proposal.operator is not Operator.FIX}


def num_fixed(root: Path) -> int:
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        events = [entry.event for entry in ledger.events()]
    return sum(isinstance(event, Sampled) and event.proposal.operator is Operator.FIX for event in events)


def durably_confirmed(root: Path) -> set[str]:
    if not (root / "ledger.sqlite").exists():
        return set()
    with Ledger.open_read_only(root / "ledger.sqlite") as ledger:
        return {f"confirm {id}" for (id,) in ledger._connection.execute("SELECT candidate_id FROM confirmed")}


def calls(root: Path, name: str = CALL_LOG) -> list[str]:
    log = root / name
    return log.read_text().splitlines() if log.exists() else []


def killed_at_random(root: Path, *, rng: random.Random, run_samples: int = 0) -> int:
    """Runs the driver until it is killed, by us or by itself; returns its exit status."""
    if rng.random() < 0.5:
        return Life(root, last_statement=rng.randrange(1, 200), run_samples=run_samples).wait()
    return Life(root, run_samples=run_samples).kill_after(delay_seconds=rng.uniform(0.0, 0.06))


def test_a_run_killed_at_random_instants_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert Life(whole).wait() == 0
    rng = random.Random(0)
    num_killed = 0
    for _ in range(NUM_KILLS):
        done, num_calls = durably_sampled(broken), len(calls(broken))
        confirmed, num_confirm_calls = durably_confirmed(broken), len(calls(broken, CONFIRM_LOG))
        num_killed += killed_at_random(broken, rng=rng) == -signal.SIGKILL
        new_calls = calls(broken)[num_calls:]
        assert not done & set(new_calls), "what was durable is not sampled again"
        assert len(new_calls) == len(set(new_calls)), "one life asks once"
        assert not confirmed & set(calls(broken, CONFIRM_LOG)[num_confirm_calls:]), "nothing is confirmed twice"
    num_before_last = len(durably_sampled(broken))
    assert Life(broken).wait() == 0
    assert reached(broken) == reached(whole)
    num_repeated = len(calls(broken)) - len(set(calls(broken)))
    assert len(calls(whole)) == len(set(calls(whole))) == NUM_PROBLEMS * NUM_SAMPLES == len(set(calls(broken)))
    assert num_fixed(whole) == num_fixed(broken) > NUM_PROBLEMS
    assert num_killed >= 20
    assert 0 < num_before_last < NUM_PROBLEMS * NUM_SAMPLES, "the kills fell while there was work"
    assert num_repeated > 0, "some kill fell while an answer was in flight"
    assert set(calls(whole, CONFIRM_LOG)) == set(calls(broken, CONFIRM_LOG)) == durably_confirmed(whole)
    _, best, confirmations, _ = reached(whole)
    assert {status for _, status in confirmations} == {"passed", "wrong_values"}
    assert 0 < len(best) < len(confirmations)


def test_a_run_killed_while_it_confirms_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    assert Life(whole, most=0).wait() == 0
    shutil.copytree(whole, broken)
    assert Life(whole).wait() == 0
    for death in ({"last_confirmation": 6}, {"last_statement": 230}, {"last_confirmation": 6}):
        confirmed, num_calls = durably_confirmed(broken), len(calls(broken, CONFIRM_LOG))
        assert Life(broken, **death).wait() == -signal.SIGKILL
        assert not confirmed & set(calls(broken, CONFIRM_LOG)[num_calls:]), "nothing is confirmed twice"
    assert 0 < len(durably_confirmed(broken)) < len(durably_confirmed(whole))
    assert Life(broken).wait() == 0
    assert reached(broken) == reached(whole)
    assert set(calls(whole, CONFIRM_LOG)) == set(calls(broken, CONFIRM_LOG)) == durably_confirmed(whole)
    assert len(calls(broken, CONFIRM_LOG)) > len(set(calls(broken, CONFIRM_LOG))), "what was in flight is done again"


def test_a_killed_run_keeps_to_its_limit_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    rng = random.Random(1)
    killed = []
    for limit in (60, 110):
        for _ in range(4):
            done, num_calls = durably_sampled(tmp_path), len(calls(tmp_path))
            killed.append(killed_at_random(tmp_path, rng=rng, run_samples=limit) == -signal.SIGKILL)
            assert not done & set(calls(tmp_path)[num_calls:]), "what was durable is not sampled again"
            assert len(durably_sampled(tmp_path)) <= limit
        assert Life(tmp_path, run_samples=limit).wait() == 0
        assert len(durably_sampled(tmp_path)) == len(set(calls(tmp_path))) == limit, "what was reserved is no more"
        _, best, confirmations, spend = reached(tmp_path)
        assert sum(of_one.samples for of_one in spend.values()) == limit
        assert set(best) <= set(spend) and confirmations
        with Ledger.open_read_only(tmp_path / "ledger.sqlite") as ledger:
            ends = {standing.ended for standing in standings(ledger.events()).values()}
        assert {(end.end, end.detail) for end in ends if end} >= {(EndReason.RUN_BUDGET, "samples")}
        assert None not in ends
    assert sum(killed) >= 5


if __name__ == "__main__":
    names = ("most", "last_statement", "last_confirmation", "run_samples")
    told = dict(zip(names, map(int, sys.argv[2:]), strict=True))
    work = drive(Path(sys.argv[1]), **told)
    sys.exit(0 if asyncio.run(work) is Outcome.COMPLETED else 1)
