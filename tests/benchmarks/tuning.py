"""Tunes recorded answers on a GPU: what other launch parameters gain, what that costs, and whether it holds.

`python tests/benchmarks/tuning.py --out tuning.json` from the repository's root, with Optuna installed; no Ray. For
each problem the first recorded answer that passes gets `--points` points, chosen as a run would choose them; the
throughput benchmark's own problems have one right answer each, made by its recipe. Right after its points, answer and
winner are confirmed: traced anew, fresh seeds, a fresh process, timed to the end.
Problems are traced side by side; one thread at a time has the GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agent.tuning_points import Told, choose_point
from sandbox import environment
from sandbox.extract import extract
from sandbox.judge import ProblemFailed, SandboxError, Tracer, open_judge
from sandbox.knobs import Point
from sandbox.launch_knobs import find_space
from sandbox.problems import load_problems
from sandbox.types import Candidate, Operator, Problem, Verdict, content_hash
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.candidates import right_answers
from tests.benchmarks.recipes import extra_problems
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
CONFIRM_EXTRA_SEEDS = 2


@dataclass(slots=True, kw_only=True)
class Tuned:
    """One problem's answer and its points, in the order in which they were tried."""

    problem: Problem
    origin: tuple[Candidate, Verdict] | None = None
    points: list[tuple[Point, Candidate, Verdict]] = field(default_factory=list)
    confirmed: dict[str, Verdict] = field(default_factory=dict)  # "origin", "winner"
    seconds: float = 0.0
    error: str | None = None

    @property
    def winner(self) -> tuple[Candidate, Verdict] | None:
        """The fastest of answer and points; None where nothing passed."""
        if self.origin is None:
            return None
        passed = [self.origin, *((c, v) for _, c, v in self.points if v.passed)]
        return max(passed, key=lambda item: item[1].speedup)


class Tuning:
    """The whole measurement."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget = chosen, budget
        self._settings = judge_settings(
            mode=chosen.mode, baselines=tuple(chosen.baselines), timing_rounds=chosen.timing_rounds,
            timing_seconds=chosen.timing_seconds, num_seeds=2, racing=True, precision=("ieee", "tf32"),
        )  # fmt: skip
        self._judge = open_judge(self._settings, device=0 if chosen.mode == "replay" else None)
        self._turn = threading.Lock()
        self._gpu_seconds = 0.0
        own = extra_problems(num_rows=8192, num_columns=4096) if chosen.mode == "replay" else []
        problems = [*load_problems(chosen.problems), *own]
        self._answers = recorded(ROOT / "configs" / "completions" / "recorded.jsonl", problems)
        self._answers |= {problem.id: right_answers(problem, count=1, seed=chosen.seed) for problem in own}
        self._tuned = {problem.id: Tuned(problem=problem) for problem in problems[: chosen.most]}
        self._local = threading.local()
        self._tracers: list[Tracer] = []

    def work(self) -> None:
        with ThreadPoolExecutor(self._chosen.tracers) as pool:
            list(pool.map(self._tune, self._tuned.values()))

    def progress(self) -> str:
        tried = sum(len(tuned.points) for tuned in self._tuned.values())
        confirmed = sum("winner" in tuned.confirmed for tuned in self._tuned.values())
        origins = sum(tuned.origin is not None for tuned in self._tuned.values())
        return f"{origins} answers of {len(self._tuned)} problems, {tried} points, {confirmed} confirmed"

    def record(self) -> dict[str, Any]:
        rows = [row_of(tuned) for tuned in list(self._tuned.values())]
        gains = [row["gain"] for row in rows if row["gain"] is not None]
        held = [row["confirmed_gain"] for row in rows if row["confirmed_gain"] is not None]
        return {
            "settings": dataclasses.asdict(self._settings),
            "points_each": self._chosen.points,
            "gpu_turn_seconds": self._gpu_seconds,
            "geometric_mean_gain": geometric_mean(gains),
            "geometric_mean_confirmed_gain": geometric_mean(held),
            "confirmed": len(held),
            "confirmed_not_slower": sum(row["not_slower"] is True for row in rows),
            "rows": rows,
        }

    def show(self, record: dict[str, Any]) -> None:
        heads = ("points", "passed", "before", "after", "gain", "held")
        print(f"{'problem':22} {' '.join(f'{head:>8}' for head in heads)}  us -> us, changed")
        for row in record["rows"]:
            figures = [text(row[name]) for name in ("before", "after", "gain", "confirmed_gain")]
            cells = [str(row["points"]), str(row["passed"]), *figures]
            times = f"{text(row['before_us'])} -> {text(row['after_us'])}, {row['changed']} {row['error'] or ''}"
            print(f"{row['problem']:22} {' '.join(f'{cell:>8}' for cell in cells)}  {times}")
            print(f"{'':22} baselines, us: {row['baseline_us']}; {row['statuses']}; {row['seconds']:.1f} s")
        mean, held = record["geometric_mean_gain"], record["geometric_mean_confirmed_gain"]
        print(
            f"geometric mean gain {text(mean)}; confirmed {text(held)} over {record['confirmed']}, not slower within "
            f"the intervals: {record['confirmed_not_slower']}; the GPU was held for {record['gpu_turn_seconds']:.1f} s"
        )

    def close(self) -> None:
        self._judge.close()
        for tracer in self._tracers:
            tracer.close()

    def _tune(self, tuned: Tuned) -> None:
        start = time.monotonic()
        try:
            self._find_origin(tuned)
            self._try_points(tuned)
            self._confirm(tuned)
        except (ProblemFailed, SandboxError) as error:
            tuned.error = str(error)
        tuned.seconds = time.monotonic() - start

    def _find_origin(self, tuned: Tuned) -> None:
        """The first answer that passes and has anything to tune."""
        for source in self._answers[tuned.problem.id]:
            if self._budget.left_seconds == 0 or find_space(source) is None:
                continue
            candidate = Candidate(problem_id=tuned.problem.id, source=source, operator=Operator.DRAFT)
            verdict = self._verdict(tuned.problem, candidate)
            if verdict.passed:
                tuned.origin = (candidate, verdict)
                return

    def _try_points(self, tuned: Tuned) -> None:
        if tuned.origin is None or (space := find_space(tuned.origin[0].source)) is None:
            return
        origin, verdict = tuned.origin
        told = [] if space.current is None else [Told(point=space.current, speedup=verdict.speedup)]
        taken = {origin.source}
        for number in range(self._chosen.points):
            seed = int(content_hash(str(self._chosen.seed), tuned.problem.id, str(number))[:7], 16)
            point = choose_point(space, told=told, taken=taken, seed=seed)
            if point is None or self._budget.left_seconds == 0:
                return
            source = space.at(point)
            candidate = Candidate(
                problem_id=origin.problem_id, source=source, operator=Operator.TUNE, parent_ids=(origin.id,)
            )
            verdict = self._verdict(tuned.problem, candidate)
            taken.add(source)
            told.append(Told(point=point, speedup=verdict.speedup if verdict.timed else None))
            tuned.points.append((point, candidate, verdict))

    def _verdict(self, problem: Problem, candidate: Candidate) -> Verdict:
        traced = self._tracer().trace(problem, candidate)
        with self._turn:
            start = time.monotonic()
            verdict = self._judge.judge(problem, candidate, traced)
            if traced.plan is not None:
                self._gpu_seconds += time.monotonic() - start
        return verdict

    def _confirm(self, tuned: Tuned) -> None:
        if tuned.origin is None or (winner := tuned.winner) is None or not winner[1].timed:
            return
        settings = dataclasses.replace(
            self._settings, racing=False, num_seeds=self._settings.num_seeds + CONFIRM_EXTRA_SEEDS
        )
        pair = {"origin": tuned.origin[0]} if winner[0] is tuned.origin[0] else {
            "origin": tuned.origin[0], "winner": winner[0]
        }  # fmt: skip
        for name, candidate in pair.items():
            if self._budget.left_seconds == 0:
                return
            traced = self._tracer().trace(tuned.problem, candidate)
            with self._turn:
                verdict = self._judge.confirm(tuned.problem, candidate, traced, settings=settings)
            tuned.confirmed[name] = verdict

    def _tracer(self) -> Tracer:
        """Of this thread: a warm process and its children belong to the thread that started it."""
        if not hasattr(self._local, "tracer"):
            self._local.tracer = Tracer(self._settings)
            self._tracers.append(self._local.tracer)
        tracer: Tracer = self._local.tracer
        return tracer


def recorded(path: Path, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """The recorded answers' texts by problem, each once."""
    found: dict[str, list[str]] = {problem.id: [] for problem in problems}
    for line in path.read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        source = extract(told["completion"], finish_reason=told.get("finish_reason")).source
        if told["problem"] in found and source is not None and source not in found[told["problem"]]:
            found[told["problem"]].append(source)
    return found


def row_of(tuned: Tuned) -> dict[str, Any]:
    before = None if tuned.origin is None else tuned.origin[1].performance
    winner = tuned.winner
    after = None if winner is None else winner[1].performance
    first, last = tuned.confirmed.get("origin"), tuned.confirmed.get("winner")
    gain = None if first is None or last is None or not first.timed else last.speedup / first.speedup
    return {
        "problem": tuned.problem.id,
        "points": len(tuned.points),
        "passed": sum(verdict.passed for _, _, verdict in tuned.points),
        "statuses": dict(Counter(verdict.status.value for _, _, verdict in tuned.points)),
        "before": None if before is None else before.speedup,
        "after": None if after is None else after.speedup,
        "gain": None if before is None or after is None else after.speedup / before.speedup,
        "before_us": None if before is None else before.runtime_us,
        "after_us": None if after is None else after.runtime_us,
        "baseline_us": None if after is None else dict(after.baseline_us),
        "floor_us": None if after is None else after.floor_us,
        "conditions": None if after is None else dict(after.conditions),
        "confirmed_gain": gain,
        "not_slower": not_slower(first, last),
        "confirmed": {name: verdict.to_json() for name, verdict in tuned.confirmed.items()},
        "tried": [
            {"point": dict(point), "status": verdict.status, "speedup": verdict.speedup, "plan_hash": verdict.plan_hash}
            for point, _, verdict in tuned.points
        ],
        "changed": changed(tuned),
        "source": None if winner is None else winner[0].source,
        "seconds": tuned.seconds,
        "error": tuned.error,
    }


def not_slower(first: Verdict | None, last: Verdict | None) -> bool | None:
    """Whether the confirmed intervals leave room for the winner to be as fast as the answer; None if not confirmed."""
    if first is None or last is None or first.performance is None:
        return None
    return last.performance is not None and last.performance.speedup_high >= first.performance.speedup_low


def changed(tuned: Tuned) -> str:
    winner = tuned.winner
    if winner is None or tuned.origin is None or (space := find_space(tuned.origin[0].source)) is None:
        return ""
    point = space.point_of(winner[0].source) or {}
    return ", ".join(f"{k.name} {k.value}->{point[k.name]}" for k in space.knobs if point.get(k.name) != k.value)


def geometric_mean(ratios: Sequence[float]) -> float | None:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def text(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("replay", "interpret"), default="replay")
    parser.add_argument("--problems", type=Path, default=ROOT / "configs" / "problems_large")
    parser.add_argument("--most", type=int, default=100, help="problems, in the order of their names")
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--budget-seconds", type=float, default=120.0, help="of the whole script")
    parser.add_argument("--tracers", type=int, default=max(environment.num_cores() - 4, 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timing-rounds", type=int, default=30)
    parser.add_argument("--timing-seconds", type=float, default=0.5)
    parser.add_argument("--baselines", nargs="+", default=["eager"])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    budget = Budget(chosen.budget_seconds)
    run_within(budget, Tuning(chosen, budget), out=chosen.out)


if __name__ == "__main__":
    main()
