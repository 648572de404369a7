"""Measures what a run costs besides its models and judges: proposals a second, resuming a ledger, reporting on it.

`python -m tests.benchmarks.controller_cost [--problems 1000] [--samples 100]` from the repository's root; no GPU. A
no-op sampler and pool answer at once with programs, prompts and feedback of some 2 kB each, so what is left is
strategies, ledger, files and the loop. Then the run's ledger is opened anew as `resume` does, until every search stands
where it stood, and `report` is written. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import yaml

from agent.config import RunConfig
from agent.events import Event, RunStarted
from agent.run_command import write_report
from agent.sampler import SampleRequest
from sandbox.types import Candidate, Problem, Proposal, Status, Verdict, content_hash
from strategies import STRATEGIES
from tests.agent.scripted_run import Bench, ScriptedPool, ScriptedSampler, plan_of, program, verdict_on
from tests.scripted_run import CONFIG

TEXT = "    # one more line of a program that is as long as such programs are, some eighty characters\n" * 22


def answer(request: SampleRequest) -> str:
    return program(f"made_by = '{request.problem.id} {request.proposal.id}'\n{TEXT}")


def judged(candidate: Candidate) -> Verdict:
    """One in eight passes, by its id; the speedup too is from there."""
    number = int(content_hash(candidate.id)[:8], 16)
    status = Status.PASSED if number % 8 == 0 else Status.WRONG_VALUES
    verdict = verdict_on(candidate, status=status, speedup=0.5 + (number >> 3) % 1000 / 500)
    return verdict if verdict.passed else dataclasses.replace(verdict, feedback=TEXT)


def prompt(problem: Problem, proposal: Proposal, parents: object) -> str:
    return f"{problem.id} {proposal.operator}\n{TEXT}"


def measured(root: Path, chosen: argparse.Namespace) -> dict[str, object]:
    named = {"name": chosen.strategy, "fix": False, "stop_when_passed": False}
    config = {"problems": "p", "sampler": {"kind": "recorded", "path": "p"}, "strategy": named}
    options = RunConfig.model_validate(config).strategy_options()
    strategy = STRATEGIES[chosen.strategy]
    plan = plan_of(chosen.problems, samples=chosen.samples, render=prompt)
    plan = dataclasses.replace(plan, new_strategy=lambda seed: strategy(seed=seed, **options))
    bench, pool = Bench(root), ScriptedPool(judged)
    pool.capacity = chosen.in_flight
    bench.folder.write_config(yaml.safe_dump(CONFIG | config))
    started: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(time.perf_counter())

    def run() -> tuple[float, float]:
        began, worked = time.perf_counter(), time.process_time()
        controller = bench.controller(
            plan, sampler=ScriptedSampler(answer), pool=pool, sampling_slots=chosen.in_flight, on_event=watch,
            most_confirmed=0,
        )  # fmt: skip
        asyncio.run(controller.run())
        return time.perf_counter() - began, time.process_time() - worked

    seconds, processor_seconds = run()
    num_proposals = chosen.problems * chosen.samples
    num_judged = len(pool.candidates)
    start = time.perf_counter()
    run()
    resumed = started[-1] - start
    assert len(pool.candidates) == num_judged, "a resumed run judged again"
    start = time.perf_counter()
    write_report(root, html=False)
    return {
        "strategy": chosen.strategy,
        "proposals": num_proposals,
        "judged": num_judged,
        "in_flight": chosen.in_flight,
        "proposals_a_second": num_proposals / seconds,
        "proposals_a_processor_second": num_proposals / processor_seconds,
        "resume_seconds": resumed,
        "report_seconds": time.perf_counter() - start,
        "ledger_mib": bench.folder.ledger.stat().st_size / 2**20,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--samples", type=int, default=100, help="a problem")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--strategy", choices=tuple(STRATEGIES), default="repair")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(Path(folder) / "run", chosen)))


if __name__ == "__main__":
    main()
