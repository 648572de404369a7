"""Runs the public KernelBench evaluator on a sample of the throughput benchmark's candidates, and gives its rate.

`python tests/benchmarks/against_kernelbench.py CHECKOUT [--sample 24] [--ours t.json]` from the repository's root, on a
GPU machine; CHECKOUT is a clone of KernelBench, which is imported from there and never copied. Each candidate has a
process of its own with that project's own settings for evaluating generations: 5 correctness trials, 100 timed ones, a
limit of 180 s, or of what the hard budget of the whole script leaves (`budget.py`): one that is cut off by that is not
counted. Candidates that would harm the process (crash, hang, memory) are left out, which favours the evaluator.

Its import chain asks for clients of model servers and the like, which evaluating does not use. Where one is missing, an
empty stand-in takes its place; the output names them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox.problems import load_problems
from tests.benchmarks.budget import Budget, run_within
from tests.benchmarks.candidates import Entry, mixed_set
from tests.benchmarks.recipes import extra_problems

ROOT = Path(__file__).parents[2]
NUM_CORRECT, NUM_TIMED, LIMIT_SECONDS = 5, 100, 180.0  # defaults of the project's scripts/eval_from_generations.py
_MARK = "RESULT "


class _Record:
    """Stands in for pydantic's BaseModel: fields with defaults, set by keyword."""

    def __init__(self, **values: Any) -> None:
        for name in self.__annotations__:
            default = getattr(type(self), name, None)
            setattr(self, name, values.get(name, dict(default) if isinstance(default, dict) else default))


def _refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a stand-in was called: evaluating was not supposed to need it")


# What the evaluator's modules import by name, and what a stand-in offers.
_STAND_INS: dict[str, dict[str, Any]] = {
    "dotenv": {"load_dotenv": lambda *_: False},
    "tqdm": {"tqdm": _refuse},
    "openai": {"OpenAI": _refuse},
    "litellm": {"completion": _refuse},
    "requests": {},
    "pydantic": {"BaseModel": _Record},
}


def stand_in() -> list[str]:
    """Puts stand-ins where a library is missing; their names."""
    missing = [name for name in _STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)  # for whoever asks whether it is there
        module.__dict__.update(_STAND_INS[name])
        sys.modules[name] = module
    return missing


def evaluate(checkout: Path) -> None:
    """In the child: evaluates what comes on standard input and prints the outcome."""
    request = json.load(sys.stdin)
    missing = stand_in()
    sys.path.insert(0, str(checkout / "src"))
    import torch
    from kernelbench.eval import eval_kernel_against_ref  # type: ignore[import-not-found]

    found = eval_kernel_against_ref(
        request["reference"], request["source"], num_correct_trials=NUM_CORRECT, num_perf_trials=NUM_TIMED,
        measure_performance=True, backend="triton", device=torch.device("cuda", 0),
    )  # fmt: skip
    told = {
        "compiled": bool(found is not None and found.compiled),
        "correct": bool(found is not None and found.correctness),
        "runtime": None if found is None else found.runtime,
        "ref_runtime": None if found is None else found.ref_runtime,
        "stand_ins": missing,
    }
    print(_MARK + json.dumps(told), flush=True)


def begun(checkout: Path) -> subprocess.Popen[str]:
    """A process of its own for one evaluation, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, str(checkout), "--child"], start_new_session=True, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(child: subprocess.Popen[str]) -> None:
    """Kills the child and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def run_one(entry: Entry, child: subprocess.Popen[str], *, limit_seconds: float) -> dict[str, Any] | None:
    """One evaluation; None where it was ended by a limit that is less than the evaluator's own."""
    start = time.monotonic()
    told: dict[str, Any] = {"problem": entry.problem.id, "kind": entry.kind, "candidate": entry.candidate.id}
    request = json.dumps({"reference": entry.problem.source, "source": entry.candidate.source})
    try:
        output, errors = child.communicate(request, timeout=min(LIMIT_SECONDS, limit_seconds))
    except subprocess.TimeoutExpired:
        ended(child)
        if limit_seconds < LIMIT_SECONDS:
            return None
        return {**told, "seconds": time.monotonic() - start, "error": "beyond the limit"}
    told["seconds"] = time.monotonic() - start
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        words = errors.strip().splitlines() or [f"exit code {child.returncode}"]
        return {**told, "error": words[-1][:300]}
    return {**told, **json.loads(lines[-1].removeprefix(_MARK))}


def summary(rows: list[dict[str, Any]], ours: dict[str, Any] | None) -> dict[str, Any]:
    """Rate, spread and, with our own figures, the ratio and where the two disagree; none where every run failed."""
    if all("error" in row for row in rows):
        return {"evaluated": 0, "errors": rows}
    seconds = [row["seconds"] for row in rows]
    rate = 60.0 * len(rows) / sum(seconds)
    told: dict[str, Any] = {
        "evaluated": len(rows),
        "per_minute": rate,
        "seconds_median": statistics.median(seconds),
        "seconds_max": max(seconds),
        "errors": [row for row in rows if "error" in row],
        "stand_ins": next((row["stand_ins"] for row in rows if "stand_ins" in row), None),
    }
    if ours is not None:
        told["ours_per_minute"] = ours["main"]["per_minute"]
        told["ratio"] = ours["main"]["per_minute"] / rate
        status = {identity: verdict[2] for identity, verdict in ours["main"]["verdicts"].items()}
        both = [row for row in rows if "error" not in row and row["candidate"] in status]
        told["both_judged"] = len(both)
        told["disagree"] = [
            {**row, "ours": status[row["candidate"]]}
            for row in both
            if row["correct"] != (status[row["candidate"]] == "passed")
        ]
    return told


class Comparison:
    """The sample, evaluated one by one."""

    def __init__(self, chosen: argparse.Namespace, budget: Budget) -> None:
        self._chosen, self._budget = chosen, budget
        problems = load_problems(ROOT / "configs/problems_large") + extra_problems(num_rows=8192, num_columns=4096)
        entries = mixed_set(
            problems, count=chosen.candidates, seed=chosen.seed, recorded=ROOT / "configs/completions/recorded.jsonl"
        )
        harmless = [entry for entry in entries if not entry.kind.harmful]
        self._sample = random.Random(chosen.seed).sample(harmless, min(chosen.sample, len(harmless)))
        self._ours = None if chosen.ours is None else json.loads(chosen.ours.read_text())
        self._rows: list[dict[str, Any]] = []
        self._child: subprocess.Popen[str] | None = None

    def work(self) -> None:
        for entry in self._sample:
            if self._budget.left_seconds == 0 or (row := self._evaluated(entry)) is None:
                break
            self._rows.append(row)
            print(json.dumps(row), flush=True)

    def _evaluated(self, entry: Entry) -> dict[str, Any] | None:
        self._child = begun(self._chosen.checkout)
        return run_one(entry, self._child, limit_seconds=self._budget.left_seconds)

    def progress(self) -> str:
        seconds = sum(row["seconds"] for row in self._rows)
        rate = 60.0 * len(self._rows) / seconds if seconds else 0.0
        return f"{len(self._rows)} of {len(self._sample)} evaluated, {rate:.1f}/min"

    def record(self) -> dict[str, Any]:
        rows = list(self._rows)
        return {**summary(rows, self._ours), "of": len(self._sample), "rows": rows}

    def show(self, record: dict[str, Any]) -> None:
        print(json.dumps({name: value for name, value in record.items() if name != "rows"}, indent=1))
        if record["evaluated"] < record["of"]:
            print(f"CUT OFF, or failed: {record['evaluated']} of {record['of']} evaluated")

    def close(self) -> None:
        if self._child is not None:
            ended(self._child)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sample", type=int, default=24)
    parser.add_argument("--budget-seconds", type=float, default=300.0, help="of the whole script")
    parser.add_argument("--candidates", type=int, default=1000, help="the size of the set that is sampled")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ours", type=Path, help="what throughput.py wrote on the same set")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.child:
        evaluate(chosen.checkout)
        return
    budget = Budget(chosen.budget_seconds)
    run_within(budget, Comparison(chosen, budget), out=chosen.out)


if __name__ == "__main__":
    main()
