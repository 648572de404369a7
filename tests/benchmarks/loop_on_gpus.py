"""Measures the whole loop with engines and judges on several GPUs, and what is left of it when they are killed.

    python -m tests.benchmarks.loop_on_gpus --placement own --kill judge,engine --out FILE
    CUDA_VISIBLE_DEVICES=0 python -m tests.benchmarks.loop_on_gpus --placement shared --seconds 110 --out FILE
    python -m tests.benchmarks.loop_on_gpus --placement none --kill quarantine --out FILE
    python -m tests.benchmarks.loop_on_gpus --placement none --mode interpret --kill judge --out FILE     # no GPU

Does what `kernelloop run` does: controller, ledger, Ray pool, vLLM sampler. The engines have the shape of Llama-3.1-8B
and dummy weights, and are there for their load: each request waits for its full answer of `--max-tokens`, whose text is
then exchanged for one with a meaning, a program out of the throughput benchmark's set (right, wrong, broken; no two
with equal plans). `--placement none` has no engine, and the programs come at once.

A run goes on until `--samples` a problem are judged, or for `--seconds` from its first proposal. Figures are of the
stretch from `--warm-seconds` to the first kill, or to the end. A GPU is idle when no kernel runs on it, by NVML's
utilization; a judge is busy while it has a candidate in hand.

Kills, one after the other once the stretch is over: `judge` ends a judge's process, `engine` the cores of all engines,
`quarantine` every judge that turns up on one GPU until that GPU is left alone. In the end the ledger is gone through
for what was lost, answered twice or judged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent import report, run_command
from agent.config import RunConfig, config_of
from agent.controller import Controller
from agent.events import Outcome, RunSummary
from agent.faults import Fault, FaultKind, FaultLog, read_faults
from agent.ledger import Ledger
from agent.ray_cluster import Seat
from agent.ray_pool import RayPool
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.vllm_engine import children_of
from sandbox import environment
from sandbox.problems import load_problems
from sandbox.types import Problem
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.loop_sampling import SLOTS_WITHOUT_ENGINES, Meaningful, Programs
from tests.benchmarks.loop_witness import Witness, buckets, engines_a_judge, ledger_faults, longest_gap, rates
from tests.benchmarks.machine_watch import MachineWatch
from tests.benchmarks.recipes import extra_problems
from tests.llama_folder import LLAMA_8B, TINY, make_folder

ROOT = Path(__file__).parents[2]
ENGINE_CORE = b"EngineCore"  # what vLLM calls the process that computes
CLOSE_SECONDS = 15.0  # of the budget, for ending engines and workers and for the tables
QUARANTINED = (FaultKind.GPU_QUARANTINED,)
KILLS = ("judge", "engine", "quarantine")


class LoopOnGpus:
    """One run."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget = chosen, budget
        self._witness = Witness()
        self._gpus = environment.visible_gpus(environment.gpus())
        self._watch = MachineWatch([str(gpu.index) for gpu in self._gpus])
        self._started = time.monotonic()
        self._pool: RayPool | None = None
        self._folder: RunFolder | None = None
        self._kills: list[dict[str, Any]] = []
        self._ended: float | None = None
        self._result: dict[str, Any] = {}
        self._killing: asyncio.Task[None] | None = None

    def work(self) -> None:
        if importlib.util.find_spec("pynvml") is None:  # Ray brings its own, and is there in any case
            sys.modules["pynvml"] = importlib.import_module("ray._private.thirdparty.pynvml")
        self._watch.start()
        with tempfile.TemporaryDirectory() as folder:
            self._work_in(Path(folder))

    def _work_in(self, root: Path) -> None:
        large = self._chosen.mode == "replay"
        problems = load_problems(ROOT / "configs" / ("problems_large" if large else "problems")) + extra_problems(
            num_rows=8192 if large else 64, num_columns=4096 if large else 100
        )
        programs = Programs(problems, seed=1)
        problems = [problem for problem in problems if problem.id in programs.problem_ids]
        config = self._config(root, num_problems=len(problems))
        folder = self._folder = RunFolder.create(str(root / "run"), runs=root, now=datetime.now())
        folder.write_config(config.to_yaml())
        folder.write_environment(environment.record())
        summary = self._run(folder, config=config, problems=problems, programs=programs)
        record = read_run(folder)
        with Ledger.open_read_only(folder.ledger) as ledger:
            faults = ledger_faults(ledger, completed=summary.outcome is Outcome.COMPLETED)
        self._result = {
            "outcome": summary.outcome.value,
            "error": summary.error,
            "headline": report.headline(record),
            "ledger": faults,
            "report_gpus": list(report.gpu_lines(record)),
            "faults": [
                f"{fault.kind}: {', '.join(fault.gpus)}: {fault.reason}" for fault in read_faults(folder.faults)
            ],
        }

    def _config(self, root: Path, *, num_problems: int) -> RunConfig:
        chosen, large = self._chosen, self._chosen.mode == "replay"
        shape = TINY if chosen.tiny else LLAMA_8B
        slots = SLOTS_WITHOUT_ENGINES if chosen.placement == "none" else chosen.in_flight
        model = make_folder(root / "model", shape, seed=None)
        recorded = {"kind": "recorded", "path": str(ROOT / "configs/completions/recorded.jsonl"), "concurrency": slots}
        vllm = {
            "kind": "vllm", "model": str(model), "concurrency": chosen.in_flight, "max_tokens": chosen.max_tokens,
            "repetition": None, "temperature": 1.0,
        }  # fmt: skip
        engine = {
            "placement": chosen.placement, "load_format": "dummy", "num_engines": chosen.engines,
            "max_model_len": 2048 + chosen.max_tokens if not chosen.tiny else None, "enforce_eager": chosen.eager,
            "time_together": chosen.time_together, "python": chosen.python, "memory_share": chosen.memory_share,
        }  # fmt: skip
        raw: dict[str, Any] = {
            "problems": str(ROOT / "configs" / ("problems_large" if large else "problems")),
            "sampler": recorded if chosen.placement == "none" else vllm,
            "strategy": {"name": "best_of_n", "in_flight": max(2, 2 * slots * max(1, chosen.engines) // num_problems)},
            "budget": {"samples": chosen.samples},
            "judge": {
                "mode": chosen.mode, "baselines": ["eager"], "timing_seconds": 0.3, "max_slowdown": 100.0,
                "cache_dir": None,
            },
            "confirm": {"enabled": False},
            "ray": {"judges": chosen.judges, "trace_workers": chosen.tracers},
        }  # fmt: skip
        if chosen.placement != "none":
            raw["engine"] = engine
        return config_of(raw, path=root / "loop.yaml")

    def _run(self, folder: RunFolder, *, config: RunConfig, problems: list[Problem], programs: Programs) -> RunSummary:
        chosen = self._chosen

        def opened(config: RunConfig, *, sampler: Any, pool: Any) -> Any:
            return Meaningful(real(config, sampler=sampler, pool=pool), programs, spread_seconds=chosen.spread_seconds)

        real, run_command.open_vllm_sampler = run_command.open_vllm_sampler, opened
        with Ledger.open(folder.ledger) as ledger:
            ledger.record_problems({problem.id: problem.key for problem in problems})
            pool = run_command.open_pool(config, tell=FaultLog(folder.faults, clock=time.time).tell)
            assert isinstance(pool, RayPool)
            self._pool = pool
            summary = asyncio.run(
                run_command.work(
                    folder, config=config, problems=problems, ledger=ledger, pool=pool, display=self._witness,
                    open_sampler=lambda config: Meaningful(None, programs, spread_seconds=0.0),
                    on_ready=self._ready,
                )
            )  # fmt: skip
        self._ended = time.monotonic()
        return summary

    def _ready(self, controller: Controller) -> None:
        """In the loop's thread, when work begins."""
        loop, left = asyncio.get_running_loop(), max(0.0, self._budget.left_seconds - CLOSE_SECONDS)
        loop.call_later(min(self._chosen.seconds, left), controller.stop)
        self._killing = loop.create_task(self._kill_in_turn())

    async def _kill_in_turn(self) -> None:
        for number, kind in enumerate(self._chosen.kill):
            await asyncio.sleep(self._chosen.kill_after_seconds if number == 0 else self._chosen.kill_pause_seconds)
            match kind:
                case "judge":
                    self._kill_judge(self._seats()[0])
                case "engine":
                    self._kill_engines()
                case "quarantine":
                    await self._kill_until_left_alone(self._seats()[-1])

    def _seats(self) -> list[Seat]:
        assert self._pool is not None
        return sorted(self._pool.seats(), key=lambda seat: seat.visible)

    def _kill_judge(self, seat: Seat) -> None:
        os.kill(seat.pid, signal.SIGKILL)
        self._kills.append({"what": "judge", "gpu": seat.gpu, "at": time.monotonic()})

    def _kill_engines(self) -> None:
        cores = [pid for pid in children_of(os.getpid()) if ENGINE_CORE in command_of(pid)]
        for pid in cores:
            os.kill(pid, signal.SIGKILL)
        self._kills.append({"what": "engine", "cores": len(cores), "at": time.monotonic()})

    async def _kill_until_left_alone(self, bad: Seat) -> None:
        """Each judge that comes up on that GPU, as soon as it has a candidate in hand, until there will be no other."""
        killed: set[int] = set()
        while bad.gpu not in {gpu for fault in self._faults() for gpu in fault.gpus if fault.kind in QUARANTINED}:
            for seat in self._seats():
                if seat.gpu == bad.gpu and seat.pid not in killed:
                    await asyncio.sleep(0.3)
                    killed.add(seat.pid)
                    with contextlib.suppress(ProcessLookupError):
                        self._kill_judge(seat)
            await asyncio.sleep(0.1)
        self._kills.append({"what": "left alone", "gpu": bad.gpu, "at": time.monotonic()})

    def _faults(self) -> tuple[Fault, ...]:
        return () if self._folder is None else read_faults(self._folder.faults)

    def progress(self) -> str:
        return f"{len(self._witness.answers)} answers, {len(self._witness.verdicts)} judged, {len(self._kills)} kills"

    def record(self) -> dict[str, Any]:
        witness = self._witness
        found: dict[str, Any] = {
            "options": {name: str(value) for name, value in vars(self._chosen).items()},
            "gpus": [f"{gpu.index}: {gpu.model}, {gpu.uuid}" for gpu in self._gpus],
        }
        if witness.begun is not None:
            begun, end = witness.begun, self._ended or time.monotonic()
            first_kill = self._kills[0]["at"] if self._kills else None
            found["start_up_seconds"] = begun - self._started
            found["all_seconds"] = end - begun
            found["stretch"] = self._stretch(begun + self._chosen.warm_seconds, first_kill or end)
            if first_kill is not None:
                found["after_the_first_kill"] = self._stretch(first_kill, end)
            found["kills"] = [{**kill, "at": kill["at"] - begun, **self._recovery(kill)} for kill in self._kills]
            found["judged_each_5_s"] = buckets(witness.verdicts, begun=begun, end=end)
            found["answers_each_5_s"] = buckets(witness.answers, begun=begun, end=end)
        return {**found, **self._result}

    def _recovery(self, kill: dict[str, Any]) -> dict[str, Any]:
        """How long until something came again: from that GPU's judge, from any judge, from an engine."""
        at = kill["at"]
        mine = [seen.at - at for seen in list(self._witness.verdicts) if seen.at > at and seen.gpu == kill.get("gpu")]
        judged = [seen.at - at for seen in list(self._witness.verdicts) if seen.at > at]
        answered = [seen.at - at for seen in list(self._witness.answers) if seen.at > at]
        return {
            "next_verdict_there_after_seconds": min(mine, default=None) if kill["what"] == "judge" else None,
            "next_verdict_after_seconds": min(judged, default=None),
            "longest_without_verdict": longest_gap(judged),
            "longest_without_answer": longest_gap(answered),
        }

    def _stretch(self, begin: float, end: float) -> dict[str, Any]:
        found = rates(list(self._witness.verdicts), list(self._witness.answers), begin=begin, end=end)
        return found | {"machine": self._watch.shares(begin, end)}

    def show(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name in ("stretch", "after_the_first_kill"):
                for key, inner in value.items():
                    print(f"{name}, {key}: {shown(inner)}")
            elif name in ("kills", "report_gpus", "faults"):
                for line in value:
                    print(f"{name}: {shown(line)}")
            elif name != "options":
                print(f"{name}: {shown(value)}")
        if (rule := engines_a_judge(record.get("stretch", {}))) is not None:
            print(f"one judge serves {rule:.1f} engines of {record['options']['max_tokens']} tokens an answer")

    def close(self) -> None:
        self._watch.stop()
        for pid in children_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


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


def kills_of(text: str) -> Iterator[str]:
    yield from (name for name in text.split(",") if name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--placement", choices=("own", "shared", "none"), default="own")
    parser.add_argument("--mode", choices=("replay", "interpret"), default="replay")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--judges", type=int, default=None)
    parser.add_argument("--tracers", type=int, default=None)
    parser.add_argument("--in-flight", type=int, default=256, help="requests at each engine")
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--time-together", type=int, default=16)
    parser.add_argument("--memory-share", type=float, help="of a GPU, for its engine; else KernelLoop's own choice")
    parser.add_argument("--tiny", action="store_true", help="a tiny model's shape")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--python", help="an interpreter with vLLM and Ray, if not this one")
    parser.add_argument("--samples", type=int, default=100_000, help="a problem")
    parser.add_argument("--seconds", type=float, default=120.0, help="from the first proposal")
    parser.add_argument("--warm-seconds", type=float, default=25.0)
    parser.add_argument("--spread-seconds", type=float, default=20.0)
    parser.add_argument("--kill", type=lambda text: list(kills_of(text)), default=[])
    parser.add_argument("--kill-after-seconds", type=float, default=65.0, help="from the first proposal")
    parser.add_argument("--kill-pause-seconds", type=float, default=10.0, help="between two kills")
    parser.add_argument("--budget-seconds", type=float, default=280.0, help="of the whole script")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if unknown := set(chosen.kill) - set(KILLS):
        parser.error(f"unknown kills {sorted(unknown)}; there are {', '.join(KILLS)}")
    budget = Budget(chosen.budget_seconds)
    run_within(budget, LoopOnGpus(chosen, budget), out=chosen.out)


if __name__ == "__main__":
    main()
