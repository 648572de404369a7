"""How far a speedup can be trusted: measured again and again, picked as the best of many, and against which baseline.

`python tests/benchmarks/timing_trust.py --out FOLDER [--parts table,repeat,best] [--processes 8] [--count 100]
[--seconds 400]` from the repository's root, on a GPU machine. `--seconds` bounds each part: what is begun is finished.

- table: the recorded answers to configs/problems_large; for each problem its fastest right one, all three baselines,
  and the speedup against the best of them.
- repeat: those answers measured in as many fresh pairs of processes as `--processes` says: the coefficient of variation
  of each one's speedup; median (bar 1 %) and 95th percentile (bar 3 %) over the kernels.
- best: `--count` candidates that are eager PyTorch itself, told apart by a constant that changes nothing: the largest
  speedup among them, and what a fresh judge finds for that one (bar: within 2 % of 1).

Compiled baselines are kept in `FOLDER/cache`. Each part writes `FOLDER/PART.json`; the tables are printed last.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox import environment
from sandbox.extract import extract
from sandbox.gpu_judge import GpuJudge
from sandbox.problems import load_problems
from sandbox.tracer import Traced, Tracer
from sandbox.types import BASELINES, Candidate, JudgeSettings, Operator, Performance, Problem, Verdict
from sandbox.zygote import SandboxError
from tests.judge_settings import judge_settings

ROOT = Path(__file__).parents[2]
PARTS = ("table", "repeat", "best")
_NUM_BEST_SIZES = {"small": "64, 1024", "large": "4096, 4096"}
_SAME = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x * 2.0 + 1.0).clamp(max={limit})
def get_inputs():
    return [torch.randn({size})]
def get_init_inputs():
    return []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One candidate, traced."""

    name: str
    problem: Problem
    candidate: Candidate
    traced: Traced


def settings_for(out: Path, **changes: object) -> JudgeSettings:
    """Replaying, as a run does by default, every candidate to its end."""
    chosen = {"mode": "replay", "baselines": BASELINES, "cache_dir": str(out / "cache"), **changes}
    return judge_settings(**chosen)


@contextmanager
def fresh_judge(settings: JudgeSettings) -> Iterator[GpuJudge]:
    judge = GpuJudge(settings, device=0)
    try:
        yield judge
    finally:
        judge.close()


def traced_all(todo: Sequence[tuple[str, Problem, Candidate]], settings: JudgeSettings) -> list[Entry]:
    """Traces on all cores; what gives no plan is left out."""
    waiting: queue.Queue[tuple[str, Problem, Candidate]] = queue.Queue()
    for item in todo:
        waiting.put(item)
    found: dict[str, Entry] = {}

    def work() -> None:
        with Tracer(settings) as tracer:
            while True:
                try:
                    name, problem, candidate = waiting.get_nowait()
                except queue.Empty:
                    return
                traced = tracer.trace(problem, candidate)
                if traced.plan is not None:
                    found[name] = Entry(name=name, problem=problem, candidate=candidate, traced=traced)

    threads = [threading.Thread(target=work) for _ in range(max(1, (os.cpu_count() or 2) - 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name, _, _ in todo if name in found]


def recorded(settings: JudgeSettings) -> list[Entry]:
    """The recorded answers to the large problems."""
    problems = {problem.id: problem for problem in load_problems(ROOT / "configs/problems_large")}
    todo = []
    for line in (ROOT / "configs/completions/quickstart.jsonl").read_text().splitlines():
        record = json.loads(line)
        source = extract(record["completion"], finish_reason=record.get("finish_reason")).source
        if source is not None and record["problem"] in problems:
            problem = problems[record["problem"]]
            todo.append(
                (record["id"], problem, Candidate(problem_id=problem.id, source=source, operator=Operator.DRAFT))
            )
    return traced_all(todo, settings)


def judged(judge: GpuJudge, entry: Entry) -> Verdict | None:
    """The verdict; None, and a line, where the fault is ours."""
    try:
        return judge.judge(entry.problem, entry.candidate, entry.traced)
    except SandboxError as error:
        print(f"{entry.name}: our fault: {error}", flush=True)
        return None


def table_part(entries: Sequence[Entry], out: Path, seconds: float) -> dict[str, Any]:
    """The fastest right answer to each problem."""
    start, best = time.monotonic(), dict[str, tuple[Entry, Performance, Verdict]]()
    stages: list[dict[str, Any]] = []
    with fresh_judge(settings_for(out)) as judge:
        for at, entry in enumerate(entries):
            if time.monotonic() - start > seconds:
                print(f"table: {len(entries) - at} candidates not reached", flush=True)
                break
            verdict = judged(judge, entry)
            if verdict is None or verdict.performance is None:
                continue
            stages.append({"name": entry.name, **verdict.stage_seconds})
            known = best.get(entry.problem.id)
            if known is None or verdict.speedup > known[2].speedup:
                best[entry.problem.id] = (entry, verdict.performance, verdict)
    rows = {
        problem: {"candidate": entry.name, "performance": asdict(performance)}
        for problem, (entry, performance, _) in sorted(best.items())
    }
    return {"rows": rows, "stages": stages}


def repeat_part(
    entries: Sequence[Entry], winners: Sequence[str], out: Path, seconds: float, processes: int
) -> dict[str, Any]:
    """Each winner's speedup in one fresh pair of processes after the other."""
    start, chosen = time.monotonic(), [entry for entry in entries if entry.name in winners]
    speedups: dict[str, list[float]] = {entry.name: [] for entry in chosen}
    against: dict[str, list[str]] = {entry.name: [] for entry in chosen}
    spent: list[float] = []
    for _ in range(processes):
        if spent and time.monotonic() - start + statistics.mean(spent) > seconds:
            print(f"repeat: stopped after {len(spent)} of {processes} processes", flush=True)
            break
        began = time.monotonic()
        with fresh_judge(settings_for(out)) as judge:
            for entry in chosen:
                verdict = judged(judge, entry)
                if verdict is not None and verdict.performance is not None:
                    speedups[entry.name].append(verdict.speedup)
                    against[entry.name].append(verdict.performance.against)
        spent.append(time.monotonic() - began)
    return {"speedups": speedups, "against": against, "process_seconds": spent}


def best_part(out: Path, seconds: float, count: int) -> dict[str, Any]:
    """The best of many equals, and what a fresh judge says of it."""
    settings = settings_for(out, baselines=("eager",), policy="any", min_kernel_share=0.0, cache_dir=None)
    found: dict[str, Any] = {}
    for name, size in _NUM_BEST_SIZES.items():
        problem = Problem(id=name, source=_SAME.format(limit="1000000.0", size=size), origin="timing_trust")
        todo = []
        for n in range(count):
            source = _SAME.format(limit=f"{1_000_000 + n}.0", size=size) + "\nModelNew = Model\n"
            candidate = Candidate(problem_id=name, source=source, operator=Operator.DRAFT)
            todo.append((f"{name}-{n}", problem, candidate))
        entries, start = traced_all(todo, settings), time.monotonic()
        if len({entry.traced.plan_hash for entry in entries}) != count:
            raise SystemExit(f"{name}: the {count} candidates are not {count} plans")
        speedups: list[tuple[float, Entry]] = []
        with fresh_judge(settings) as judge:
            for entry in entries:
                if time.monotonic() - start > seconds / len(_NUM_BEST_SIZES):
                    print(f"best: {name}: {len(speedups)} of {count} judged", flush=True)
                    break
                verdict = judged(judge, entry)
                if verdict is not None and verdict.performance is not None:
                    speedups.append((verdict.speedup, entry))
        top = max(speedups, key=lambda pair: pair[0])
        with fresh_judge(settings) as judge:
            again = judged(judge, top[1])
        found[name] = {
            "speedups": [speedup for speedup, _ in speedups],
            "raw_maximum": top[0],
            "confirmed": None if again is None or again.performance is None else asdict(again.performance),
        }
    return found


def print_table(found: dict[str, Any]) -> None:
    print(f"\n{'problem':<20} {'candidate':>10} {'eager':>9} {'compile':>9} {'autotune':>9}  speedup (95 %) against")
    for problem, row in found["rows"].items():
        figures = row["performance"]
        times = [figures["baseline_us"].get(name) for name in BASELINES]
        cells = " ".join(f"{'left out' if t is None else f'{t:.1f}':>9}" for t in times)
        low, high = figures["speedup_low"], figures["speedup_high"]
        speedup = f"{figures['speedup']:.3f} ({low:.3f} to {high:.3f}) {figures['against']}"
        print(f"{problem:<20} {figures['runtime_us']:>10.1f} {cells}  {speedup}")
    for stage in ("replay", "baseline", "time"):
        spent = sorted(line[stage] for line in found["stages"] if stage in line)
        if spent:
            print(f"stage {stage}: median {statistics.median(spent):.3f} s, largest {spent[-1]:.3f} s")
    for problem, row in found["rows"].items():
        for name, text in row["performance"]["conditions"].items():
            if name.startswith(("left_out.", "baselines_drift")):
                print(f"{problem}: {name}: {text}")


def print_repeat(found: dict[str, Any]) -> None:
    print(f"\n{'kernel':<24} {'n':>3} {'median':>8} {'CV':>8}  against")
    spreads = []
    for name, speedups in sorted(found["speedups"].items()):
        if len(speedups) < 2:
            continue
        spreads.append(statistics.stdev(speedups) / statistics.mean(speedups))
        against = ", ".join(sorted(set(found["against"][name])))
        print(f"{name:<24} {len(speedups):>3} {statistics.median(speedups):>8.3f} {spreads[-1]:>8.2%}  {against}")
    if spreads:
        ordered = sorted(spreads)
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        middle = statistics.median(ordered)
        print(f"CV over {len(ordered)} kernels: median {middle:.2%} (bar 1 %), p95 {p95:.2%} (bar 3 %)")


def print_best(found: dict[str, Any]) -> None:
    print()
    for name, result in found.items():
        speedups, again = result["speedups"], result["confirmed"]
        confirmed = "not timed" if again is None else f"{again['speedup']:.4f}"
        print(
            f"best of {len(speedups)} equals, {name}: raw median {statistics.median(speedups):.4f}, raw maximum "
            f"{result['raw_maximum']:.4f}; confirmed in a fresh judge {confirmed} (bar: 0.98 to 1.02)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="of table, repeat, best; repeat needs table's file")
    parser.add_argument("--processes", type=int, default=8, help="fresh judges for `repeat`")
    parser.add_argument("--kernels", type=int, default=17, help="at most so many kernels in `repeat`")
    parser.add_argument("--count", type=int, default=100, help="equal candidates for `best`")
    parser.add_argument("--seconds", type=float, default=400.0, help="each part's")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    entries = recorded(settings_for(options.out)) if {"table", "repeat"} & set(parts) else []
    found: dict[str, dict[str, Any]] = {}
    for part in [part for part in PARTS if part in parts]:
        start = time.monotonic()
        if part == "table":
            found[part] = table_part(entries, options.out, options.seconds)
        elif part == "repeat":
            rows = json.loads((options.out / "table.json").read_text())["rows"]
            winners = [row["candidate"] for row in rows.values()][: options.kernels]
            found[part] = repeat_part(entries, winners, options.out, options.seconds, options.processes)
        else:
            found[part] = best_part(options.out, options.seconds, options.count)
        (options.out / f"{part}.json").write_text(json.dumps(found[part], indent=1))
        print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)
    print(json.dumps(environment.record()))
    for part, show in (("table", print_table), ("repeat", print_repeat), ("best", print_best)):
        if part in found:
            show(found[part])


if __name__ == "__main__":
    main()
