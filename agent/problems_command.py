"""The command `problems check`: which problems can be judged, before anybody samples for them.

Knows nothing of sampling, searches or run folders. Each problem is one line; the rest is a count.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from agent.judge_command import tell_start
from agent.pairs import PairsError
from agent.waiting import Waiting, interrupts_told
from sandbox import environment, strict_json
from sandbox.judge import open_judge
from sandbox.precision import PRECISIONS
from sandbox.problem_check import Admission, ProblemCheck, check_problems
from sandbox.problems import scan_problems
from sandbox.settings import JudgeSettings

_RESERVED_CORES = 1  # for the judge


def check(path: Path, *, levels: Sequence[int] | None, out: Path | None, settings: JudgeSettings, as_json: bool) -> int:
    """Checks every problem at `path`. 0 if all are admitted, 1 where something of ours failed, else 2."""
    problems, faults = scan_problems(path, levels=levels)
    for fault in faults:
        print(f"kernelloop: {fault}", file=sys.stderr)
    precision = max(settings.precision, key=PRECISIONS.index)  # the widest bounds that the settings allow
    with _opened(out) as file:
        tell_start(f"checking {_counted(len(problems))}")
        with contextlib.closing(open_judge(settings, device=0 if settings.mode == "replay" else None)) as judge:
            threads = max(1, environment.num_cores() - _RESERVED_CORES)
            checks = check_problems(problems, judge=judge, settings=settings, num_threads=threads, precision=precision)
            counts = _show_all(checks, num_problems=len(problems), file=file, as_json=as_json)
    summary = ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in Admission if counts[kind])
    conditions = _conditions(settings, precision=precision)
    print(f"{_counted(len(problems))}: {summary or 'none'}; {conditions}", file=sys.stderr)
    if counts[Admission.OUR_FAULT]:
        return 1
    return 0 if counts[Admission.ADMITTED] == len(problems) and not faults else 2


def _show_all(
    checks: Iterator[ProblemCheck], *, num_problems: int, file: TextIO | None, as_json: bool
) -> Counter[Admission]:
    """Each as it comes, and how many there were of each sort."""
    counts: Counter[Admission] = Counter()
    with interrupts_told():
        while True:
            with Waiting(f"checked {counts.total()} of {_counted(num_problems)}"):
                found = next(checks, None)
            if found is None:
                return counts
            counts[found.admission] += 1
            told = strict_json.dumps(found.to_json())
            print(told if as_json else line_of(found), flush=True)
            if file is not None:
                file.write(told + "\n")
                file.flush()


def _counted(num_problems: int) -> str:
    return f"{num_problems} problem{'' if num_problems == 1 else 's'}"


def line_of(found: ProblemCheck) -> str:
    """A problem in one line: what became of it, the null programs that it rejects, its cases and what they miss."""
    parts = [f"{found.problem_id}: {found.admission.replace('_', ' ')}"]
    if (calibration := found.calibration) is not None:
        parts.append(f"null programs rejected {calibration.num_rejected}/{calibration.num_nulls}")
        parts.append(f"inputs {', '.join(calibration.kinds)}")
        if calibration.unseen:
            parts.append(f"unseen {', '.join(calibration.unseen)}")
    if found.reason is not None:
        parts.append(found.reason)
    return "; ".join([*parts, f"{found.seconds:.1f} s"])


def _conditions(settings: JudgeSettings, *, precision: str) -> str:
    where = "on a GPU" if environment.gpu_usable() and settings.mode == "replay" else "on the CPU"
    return f"{where}, {settings.num_seeds} seeds, precision {precision}"


def _opened(out: Path | None) -> contextlib.AbstractContextManager[TextIO | None]:
    if out is None:
        return contextlib.nullcontext()
    try:
        return out.open("w", encoding="utf-8")
    except OSError as error:
        raise PairsError(f"--out {out}: {error.strerror}") from error
