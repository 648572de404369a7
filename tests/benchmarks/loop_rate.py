"""How fast the whole loop goes over vLLM engines, where its time goes, and how idle the GPUs are. Prints Markdown.

    python -m standin.write_problems --count 88 --size large --out runs/problems-large
    python -m tests.benchmarks.loop_rate configs/quickstart.yaml --out FILE problems=runs/problems-large
        "sampler={kind: vllm, model: standin/checkpoint}" judge.mode=replay [--kill-after N] [key=value ...]

Does what `kernelloop run` does, in this process, and stops the run in good order when `--seconds` are nearly over.
Rates are from the first proposal on; starting Ray and engines is told beside. `--kill-after` ends the cores of all
engines by SIGKILL when that many answers are there and others are in the making; rates are then of the time before.
In the end the ledger is gone through for what was lost or charged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent import report, run_command
from agent.config import RunConfig, load_config
from agent.controller import Controller
from agent.events import Event, Judged, Outcome, Proposed, RunStarted, RunSummary, Sampled, Unsampled
from agent.gpu_lease import GpuLease
from agent.ledger import Ledger
from agent.ray_pool import RayPool
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.vllm_engine import children_of
from sandbox import environment
from sandbox.isolation import probe
from sandbox.types import Problem
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.loop_figures import (
    JUDGE_STAGES,
    MODEL,
    Answered,
    Ranked,
    ledger_faults,
    problem_row,
    rates,
    speedup_table,
    stages,
)
from tests.benchmarks.machine_watch import MachineWatch

CLOSE_SECONDS = 15.0  # of the budget, for ending engines and workers and for the tables
ENGINE_CORE = b"EngineCore"  # what vLLM calls the process that computes


class Witness:
    """Sees every event of the run, as a display does, and kills the engines when it is time to."""

    def __init__(self, *, kill_after: int | None) -> None:
        self.kill_after = kill_after
        self.lease: GpuLease | None = None
        self.answers: list[Answered] = []
        self.ranked: list[Ranked] = []
        self.turns: dict[str, float] = {}
        self.begun: float | None = None
        self.killed: dict[str, Any] | None = None
        self.turns_at_kill: dict[str, float] | None = None
        self._open = 0  # requests at engines

    def show(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case RunStarted():
                self.begun = now
            case Proposed(proposal=proposal):
                self._open += proposal.operator in MODEL
            case Sampled(proposal=proposal) if proposal.operator in MODEL:
                self._open -= 1
                self.answers.append(Answered(at=now, tokens=event.completion_tokens))
                self._told_after_kill(now)
            case Unsampled():
                self._open -= 1
            case Judged(verdict=verdict):
                self.ranked.append(Ranked(at=now, verdict=verdict))
        if self.lease is not None and self.begun is not None:
            self.turns = {turn.value: seconds for turn, seconds in self.lease.seconds.items() if seconds}
        if self.killed is None and self.kill_after is not None and len(self.answers) >= self.kill_after and self._open:
            self._kill(now)

    def _kill(self, now: float) -> None:
        cores = [pid for pid in children_of(os.getpid()) if ENGINE_CORE in command_of(pid)]
        for pid in cores:
            os.kill(pid, signal.SIGKILL)
        assert self.begun is not None
        self.killed = {
            "at": now, "after_seconds": now - self.begun, "cores": len(cores), "in_flight": self._open,
            "answers_before": len(self.answers),
        }  # fmt: skip
        self.turns_at_kill = dict(self.turns)

    def _told_after_kill(self, now: float) -> None:
        """Answers that had left the engine before come at once: the first new one is that of an engine started anew."""
        if self.killed is not None:
            self.killed["answers_after"] = len(self.answers) - self.killed["answers_before"]
            self.killed["last_answer_after_seconds"] = now - self.killed["at"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LogLines(logging.Handler):
    """Keeps what engines and lease say, with the time since it was made."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._began = time.monotonic()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{time.monotonic() - self._began:.1f} s: {record.getMessage()}")


class LoopRate:
    """One run."""

    def __init__(self, args: argparse.Namespace, budget: Budget) -> None:
        self._args, self._budget = args, budget
        self._began = time.monotonic()
        self._witness = Witness(kill_after=args.kill_after)
        self._log = LogLines()
        self._watch = MachineWatch(gpus_here())
        self._ended: float | None = None
        self._result: dict[str, Any] = {}
        for name in ("agent.vllm_sampler", "agent.gpu_lease", "agent.ray_pool"):
            logging.getLogger(name).setLevel(logging.INFO)
            logging.getLogger(name).addHandler(self._log)

    def work(self) -> None:
        self._watch.start()
        config = load_config(self._args.config, self._args.overrides)
        problems = run_command.check_parts(config, path=self._args.config)
        config = run_command.with_mode_settled(config)
        folder = RunFolder.create(config.run_dir, runs=Path("runs"), now=datetime.now())
        folder.write_config(config.to_yaml())
        folder.write_environment(environment.record(isolation=probe()))
        summary = self._run(folder, config=config, problems=problems)
        record = read_run(folder)
        folder.write_report(report.report_text(record))
        with Ledger.open_read_only(folder.ledger) as ledger:
            faults = ledger_faults(ledger, summary)
        self._result = {
            "outcome": summary.outcome.value,
            "error": summary.error,
            "headline": report.headline(record),
            "ledger": faults,
            "environment": dict(record.environment),
            "problems": [problem_row(result) for result in record.results],
        }
        if summary.outcome not in (Outcome.COMPLETED, Outcome.STOPPED):
            raise RuntimeError(f"the run failed: {summary.error}")

    def _run(self, folder: RunFolder, *, config: RunConfig, problems: list[Problem]) -> RunSummary:
        with Ledger.open(folder.ledger) as ledger:
            ledger.record_problems({problem.id: problem.key for problem in problems})
            pool = run_command.open_pool(config)
            self._witness.lease = pool.lease if isinstance(pool, RayPool) else None
            running = run_command.work(
                folder, config=config, problems=problems, ledger=ledger, pool=pool, display=self._witness,
                on_ready=self._stop_in_time,
            )  # fmt: skip
            summary = asyncio.run(running)
        self._ended = time.monotonic()
        return summary

    def _stop_in_time(self, controller: Controller) -> None:
        seconds = max(0.0, self._budget.left_seconds - CLOSE_SECONDS)
        asyncio.get_running_loop().call_later(seconds, controller.stop)

    def progress(self) -> str:
        witness = self._witness
        if witness.begun is None:
            return "starting"
        return f"{len(witness.answers)} answers, {len(witness.ranked)} judged, killed: {witness.killed is not None}"

    def record(self) -> dict[str, Any]:
        witness = self._witness
        found: dict[str, Any] = {"options": {name: str(value) for name, value in vars(self._args).items()}}
        if witness.begun is not None:
            found["start_up_seconds"] = witness.begun - self._began
            found["all_seconds"] = (self._ended or time.monotonic()) - witness.begun
            ranked = list(witness.ranked)
            end = witness.killed["at"] if witness.killed else max((r.at for r in ranked), default=witness.begun)
            found["loop"] = self._stretch(ranked, end=end)
        return {**found, "killed": witness.killed, "log": list(self._log.lines), **self._result}

    def _stretch(self, ranked: list[Ranked], *, end: float) -> dict[str, Any]:
        """From the first proposal to `end`."""
        witness = self._witness
        assert witness.begun is not None
        begun, answers = witness.begun, list(witness.answers)
        found = rates(answers, ranked, begin=begun, end=end)
        if end > begun:
            found["stages"] = stages([r.verdict for r in ranked if r.at <= end], seconds=end - begun)
            found["judge_busy_share"] = sum(found["stages"].get(s, {}).get("share", 0.0) for s in JUDGE_STAGES)
        found["busy"] = self._watch.shares(begun, end)
        found["busy_while_sampling"] = self._watch.shares(begun, begun + found.get("sampling_seconds", 0.0))
        found["turns"] = witness.turns if witness.turns_at_kill is None else witness.turns_at_kill
        return found

    def show(self, record: dict[str, Any]) -> None:
        loop = record.get("loop", {})
        for name in ("outcome", "error", "headline", "start_up_seconds", "all_seconds", "killed", "ledger"):
            print(f"{name}: {shown(record.get(name))}")
        for name, value in loop.items():
            if name != "stages":
                print(f"loop, {name}: {shown(value)}")
        for stage, row in loop.get("stages", {}).items():
            print(f"loop, stage {stage}: {shown(row)}")
        print("\n".join(record["log"][-40:]))
        if "problems" in record:
            print("\n".join(["", *speedup_table(record["problems"])]))

    def close(self) -> None:
        self._watch.stop()
        for pid in children_of(os.getpid()):  # Ray's and vLLM's: this process ends without their doing
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def gpus_here() -> list[str]:
    """Those that CUDA may see, by index or UUID."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return [name for name in visible.split(",") if name]


def command_of(pid: int) -> bytes:
    """As its process has it; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def shown(value: object) -> str:
    match value:
        case float():
            return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
        case dict():
            return "{" + ", ".join(f"{name}: {shown(inner)}" for name, inner in value.items()) + "}"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=570.0, help="of wall time, for everything")
    parser.add_argument("--kill-after", type=int, help="answers")
    args = parser.parse_intermixed_args()
    budget = Budget(args.seconds)
    run_within(budget, LoopRate(args, budget), out=args.out)


if __name__ == "__main__":
    main()
