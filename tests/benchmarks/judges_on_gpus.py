"""Measures what more judges bring: the same mixed set through one GPU and through N, and the same kernels on each GPU.

    python -m tests.benchmarks.judges_on_gpus --gpus 2 --candidates 600 --out FILE
    python -m tests.benchmarks.judges_on_gpus --gpus 2 --mode interpret --candidates 40 --tracers 1     # without a GPU

Phases, in order, each with a limit of its own (`--run-seconds`, `--same-seconds`) within the budget of the whole:

    one, many   the set through a Ray pool with one judge, then with N, each with `--tracers` tracers a judge. The rate
                is from the first candidate that is handed in to the last verdict; every worker is warm before
    same        `--kernels` right candidates timed `--repeats` times on each GPU, all GPUs at once, without Ray

Efficiency is the steady rate of N over N times that of one; steady is up to when all but the last twentieth of the set
have a verdict, `to_the_last` says what it is with those. A GPU's busy share is the time that its judge had a candidate
in hand (stages reference, replay, baseline, quiet, time), over the time of the run. `tail_seconds` is how long before
the last verdict of all each GPU had its own last one. `tracers_a_judge` is what one judge keeps busy: the seconds of
tracing and compiling that the set took, over the seconds that judges took for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.config import RayConfig
from agent.ray_pool import RayPool
from agent.vllm_engine import children_of
from sandbox import environment
from sandbox.problems import load_problems
from sandbox.types import Candidate, Operator, Problem, Verdict
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.candidates import Entry, Kind, mixed_set
from tests.benchmarks.recipes import extra_problems
from tests.benchmarks.same_kernels import SameKernels, agreement
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
JUDGE_STAGES = ("reference", "replay", "baseline", "quiet", "time", "interpret")
TRACE_STAGES = ("trace", "check", "compile")
BAR_EFFICIENCY, BAR_AGREEMENT = 0.9, 0.02
_WARM_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One candidate's verdict, and when it came, in seconds from the start of its run."""

    entry: Entry
    verdict: Verdict
    at: float


@dataclass(slots=True, kw_only=True)
class CrewRun:
    """The set through one crew."""

    num_judges: int
    num_tracers: int
    of: int
    start_up_seconds: float | None = None
    wall_seconds: float = 0.0
    seen: list[Seen] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Plain, for the record."""
        wall, verdicts = self.wall_seconds, [seen.verdict for seen in self.seen]
        by_gpu: dict[str, list[Seen]] = {}
        for seen in self.seen:
            if seen.verdict.gpu is not None:
                by_gpu.setdefault(seen.verdict.gpu, []).append(seen)
        traced, judged = _seconds(verdicts, TRACE_STAGES), _seconds(verdicts, JUDGE_STAGES)
        return {
            "judges": self.num_judges,
            "tracers": self.num_tracers,
            "start_up_seconds": self.start_up_seconds,
            "wall_seconds": wall,
            "judged": len(self.seen),
            "of": self.of,
            "per_minute": 60 * len(self.seen) / wall if wall else None,
            "steady_per_minute": steady_per_minute([seen.at for seen in self.seen]),
            "gpus": {gpu: _gpu_told(mine, wall=wall) for gpu, mine in sorted(by_gpu.items())},
            "statuses": {status.value: n for status, n in Counter(v.status for v in verdicts).most_common()},
            "trace_seconds": traced,
            "judge_seconds": judged,
            "tracers_a_judge": traced / judged if judged else None,
            "problems_opened": _num_opened(self.seen),
            "errors": self.errors,
        }


def steady_per_minute(times: Sequence[float]) -> float | None:
    """Up to when all but the last twentieth of the verdicts were there: at the end a crew has more workers than
    candidates, and one that takes its full time limit holds up no other."""
    kept = sorted(times)[: len(times) - len(times) // 20]
    return 60 * len(kept) / kept[-1] if kept and kept[-1] > 0 else None


def _seconds(verdicts: Sequence[Verdict], stages: Sequence[str]) -> float:
    return sum(verdict.stage_seconds.get(stage, 0.0) for verdict in verdicts for stage in stages)


def _gpu_told(mine: Sequence[Seen], *, wall: float) -> dict[str, Any]:
    busy = _seconds([seen.verdict for seen in mine], JUDGE_STAGES)
    return {
        "verdicts": len(mine),
        "busy_seconds": busy,
        "busy_share": busy / wall if wall else None,
        "tail_seconds": wall - max(seen.at for seen in mine),
        "problems": len({seen.entry.problem.id for seen in mine}),
    }


def _num_opened(seen: Sequence[Seen]) -> int:
    """Pairs of a problem and a GPU that judged some of it: each opens it once at least."""
    return len({(each.entry.problem.id, each.verdict.gpu) for each in seen if each.verdict.gpu is not None})


def changed(one: Sequence[Seen], many: Sequence[Seen]) -> dict[str, Any]:
    """Candidates whose status is another with N judges."""
    before = {seen.entry.candidate.id: seen for seen in one}
    pairs = [(before[seen.entry.candidate.id], seen) for seen in many if seen.entry.candidate.id in before]
    other = [(a, b) for a, b in pairs if a.verdict.status is not b.verdict.status]
    return {
        "compared": len(pairs),
        "changed": len(other),
        "which": [
            [a.entry.problem.id, a.entry.kind, a.verdict.status, b.verdict.status, b.verdict.feedback[:200]]
            for a, b in other
        ],
    }  # fmt: skip


class JudgesOnGpus:
    """All phases."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget = chosen, budget
        large = chosen.mode == "replay"
        self._settings = judge_settings(
            mode=chosen.mode, timing_rounds=60, timing_seconds=0.3, racing=True, max_slowdown=100,
        )  # fmt: skip
        folder = ROOT / "configs" / ("problems_large" if large else "problems")
        self._problems = load_problems(folder) + extra_problems(
            num_rows=8192 if large else 64, num_columns=4096 if large else 100
        )
        recorded = ROOT / "configs/completions/recorded.jsonl"
        entries = mixed_set(self._problems, count=chosen.candidates, seed=chosen.seed, recorded=recorded)
        self._entries = [e for e in entries if chosen.harm or not e.kind.harmful]
        self._environment = environment.record()
        self._runs: dict[str, CrewRun] = {}
        self._same: SameKernels | None = None
        self._doing = "starting"

    def work(self) -> None:
        if "crews" in self._chosen.phases:
            for name, judges in (("one", 1), ("many", self._chosen.gpus)):
                if self._budget.left_seconds > 0:
                    asyncio.run(self._run(name, judges=judges))
        if "same" in self._chosen.phases and self._budget.left_seconds > 0:
            self._doing = "same"
            self._same = SameKernels(
                judge_settings(mode=self._chosen.mode, timing_seconds=1.0),
                num_gpus=self._chosen.gpus if self._chosen.mode == "replay" else 0,
                repeats=self._chosen.repeats,
            )
            until = time.monotonic() + min(self._chosen.same_seconds, self._budget.left_seconds)
            self._same.run(self._kernels(), until=until)

    def _kernels(self) -> list[Entry]:
        """The first right ones of each problem in turn."""
        by_problem: dict[str, list[Entry]] = {}
        for entry in self._entries:
            if entry.kind is Kind.RIGHT:
                by_problem.setdefault(entry.problem.id, []).append(entry)
        ordered = [mine[turn] for turn in range(4) for mine in by_problem.values() if turn < len(mine)]
        return ordered[: self._chosen.kernels]

    async def _run(self, name: str, *, judges: int) -> None:
        tracers = judges * self._chosen.tracers
        run = self._runs[name] = CrewRun(num_judges=judges, num_tracers=tracers, of=len(self._entries))
        self._doing, start = f"{name}: starting", time.monotonic()
        pool = RayPool(self._settings, RayConfig(judges=judges, trace_workers=tracers))
        try:
            await self._warm(pool, judges=judges, tracers=tracers)
            run.start_up_seconds = time.monotonic() - start
            self._doing = name
            until = time.monotonic() + min(self._chosen.run_seconds, self._budget.left_seconds)
            await self._feed(pool, run, until=until)
        finally:
            await pool.close()

    async def _warm(self, pool: RayPool, *, judges: int, tracers: int) -> None:
        """Every tracer and every judge has worked: each gets a share of what is handed in at once."""
        problem = self._problems[0]
        texts = [f"# {number}\nclass ModelNew:\n    pass\n" for number in range(2 * tracers)]
        right = [e.candidate for e in self._entries if e.kind is Kind.RIGHT and e.problem is problem]
        works = [pool.judge(problem, _candidate(problem, text)) for text in texts]
        works += [pool.judge(problem, _renamed(candidate)) for candidate in right[: 3 * judges]]
        async with asyncio.timeout(min(_WARM_SECONDS, self._budget.left_seconds)):
            await asyncio.gather(*works)

    async def _feed(self, pool: RayPool, run: CrewRun, *, until: float) -> None:
        room, start = asyncio.Semaphore(pool.capacity), time.monotonic()

        async def judge(entry: Entry) -> None:
            try:
                verdict = await pool.judge(entry.problem, entry.candidate)
            except Exception as error:  # noqa: BLE001  ours or the problem's: told, and counted as an error
                run.errors.append(f"{entry.candidate.id}: {type(error).__name__}: {error}"[:300])
                return
            finally:
                room.release()
            run.wall_seconds = time.monotonic() - start
            run.seen.append(Seen(entry=entry, verdict=verdict, at=run.wall_seconds))

        tasks = []
        for entry in self._entries:
            await room.acquire()
            if time.monotonic() > until:
                break
            tasks.append(asyncio.create_task(judge(entry)))
        _, late = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        for task in late:
            task.cancel()

    def progress(self) -> str:
        return f"{self._doing}; " + ", ".join(f"{name} {len(run.seen)}" for name, run in self._runs.items())

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "options": {name: str(value) for name, value in vars(self._chosen).items()},
            "environment": self._environment,
            "mix": dict(Counter(entry.kind.value for entry in self._entries)),
            **{name: run.told() for name, run in self._runs.items()},
        }
        if {"one", "many"} <= self._runs.keys():
            found["comparison"] = changed(self._runs["one"].seen, self._runs["many"].seen)
            for name, rate in (("efficiency", "steady_per_minute"), ("efficiency_to_the_last", "per_minute")):
                one, many = found["one"][rate], found["many"][rate]
                found[name] = many / one / self._chosen.gpus if one and many else None
        if self._same is not None:
            found["same"] = {"kernels": self._same.told(), "errors": self._same.errors}
            found["agreement"] = agreement(found["same"]["kernels"], within=BAR_AGREEMENT)
        return found

    def show(self, record: dict[str, Any]) -> None:
        for name in ("one", "many"):
            if (run := record.get(name)) is not None:
                show_run(name, run)
        if "comparison" in record:
            told = record["comparison"]
            print(f"statuses: {told['compared']} compared, {told['changed']} changed (bar 0): {told['which'][:6]}")
        if record.get("efficiency") and record.get("efficiency_to_the_last"):
            to_the_last = record["efficiency_to_the_last"]
            print(
                f"efficiency {record['efficiency']:.1%} (bar {BAR_EFFICIENCY:.0%}), to the last one {to_the_last:.1%}"
            )
        if "same" in record:
            for row in record["same"]["kernels"]:
                print("same: " + ", ".join(f"{key} {value}" for key, value in row.items()))
            print(f"agreement: {record['agreement']} (bar: all within {BAR_AGREEMENT:.0%})")
            print(f"same: {len(record['same']['errors'])} errors: {record['same']['errors'][:3]}")

    def close(self) -> None:
        if self._same is not None:
            self._same.close()
        for pid in children_of(os.getpid()):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue


def show_run(name: str, run: dict[str, Any]) -> None:
    if run["per_minute"] is None or run["start_up_seconds"] is None:
        print(f"{name}: nothing judged; errors {run['errors'][:3]}")
        return
    of = "" if run["judged"] == run["of"] else f" of {run['of']}: CUT OFF"
    print(
        f"{name}: {run['judges']} judges, {run['tracers']} tracers, up in {run['start_up_seconds']:.1f} s;"
        f" {run['judged']} candidates{of} in {run['wall_seconds']:.1f} s: {run['per_minute']:.0f}/min,"
        f" steady {run['steady_per_minute']:.0f}/min;"
        f" tracing {run['trace_seconds']:.0f} s, judging {run['judge_seconds']:.0f} s;"
        f" {run['problems_opened']} problems opened; {len(run['errors'])} errors of ours: {run['errors'][:3]}"
    )
    if run["tracers_a_judge"] is not None:
        print(f"{name}: one judge keeps {run['tracers_a_judge']:.1f} tracers busy; statuses {run['statuses']}")
    for gpu, row in run["gpus"].items():
        print(f"{name}: {gpu}: " + ", ".join(f"{key} {value:.3g}" for key, value in row.items()))


def _candidate(problem: Problem, source: str) -> Candidate:
    return Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT)


def _renamed(candidate: Candidate) -> Candidate:
    """The same program with another kernel's name, which makes it another plan."""
    source = candidate.source.replace("def kernel(", "def warm_up(").replace("kernel[", "warm_up[")
    return Candidate(problem_id=candidate.problem_id, source=source, operator=Operator.DRAFT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("replay", "interpret"), default="replay")
    parser.add_argument("--gpus", type=int, default=max(1, len(environment.visible_gpus(environment.gpus()))))
    parser.add_argument("--phases", type=lambda text: text.split(","), default=["crews", "same"])
    parser.add_argument("--candidates", type=int, default=600)
    parser.add_argument("--tracers", type=int, default=14, help="for each judge")
    parser.add_argument("--harm", action=argparse.BooleanOptionalAction, default=True, help="harmful ones among them")
    parser.add_argument("--run-seconds", type=float, default=90.0, help="for each of the two runs, without its start")
    parser.add_argument("--kernels", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--same-seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget-seconds", type=float, default=300.0, help="of the whole script")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if unknown := set(chosen.phases) - {"crews", "same"}:
        parser.error(f"unknown phases {sorted(unknown)}; there are crews, same")
    budget = Budget(chosen.budget_seconds)
    run_within(budget, JudgesOnGpus(chosen, budget), out=chosen.out)


if __name__ == "__main__":
    main()
