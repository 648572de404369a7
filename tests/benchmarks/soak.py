"""Judges the honest corpus under fresh secrets again and again, and lists every program that is refused: how rare wrong
rejections are found on purpose.

From the repository's root: `python tests/benchmarks/soak.py --rounds 20`; needs no GPU. Programs are traced once: only
what is judged on is drawn anew each round. A refusal comes with its secret, and `--secret SECRET --only PROGRAM`
judges on the same inputs again. Besides the refused, the table shows the programs whose error came near its bound, for
those are refused under some secret that was not drawn. Ends with status 1 where anything was refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from sandbox.judge import InterpretJudge, ProblemFailed
from sandbox.seeds import new_secret
from sandbox.tracer import Traced, Tracer
from sandbox.types import Verdict
from tests.adversarial.layers import HONEST, Program, read_honest
from tests.judge_settings import LIMITS, judge_settings

_SETTINGS = judge_settings(interpret_limits=dataclasses.replace(LIMITS, wall_seconds=60))
NEAR = 0.25  # of the bound; the usual error is a tenth of it and less


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one program got under one secret. `told` is None where it passed; `ratio` its largest error by its bound."""

    program: str
    secret: str
    told: str | None
    ratio: float | None


def judged_once(programs: Sequence[Program], traced: Sequence[Traced], *, secret: str) -> list[Judged]:
    """One round: every program by judges that have this secret, one for each precision."""
    judges: dict[tuple[str, ...], InterpretJudge] = {}
    found = []
    try:
        for program, trace in zip(programs, traced, strict=True):
            if program.precision not in judges:
                settings = dataclasses.replace(_SETTINGS, precision=program.precision)
                judges[program.precision] = InterpretJudge(settings, secret=secret)
            found.append(_judged(judges[program.precision], program, trace, secret=secret))
    finally:
        for judge in judges.values():
            judge.close()
    return found


def _judged(judge: InterpretJudge, program: Program, traced: Traced, *, secret: str) -> Judged:
    try:
        verdict = judge.judge(program.problem, program.candidate, traced)
    except ProblemFailed as error:  # a problem that stands under one secret and not under another is as bad
        return Judged(program=program.path.stem, secret=secret, told=f"inadmissible: {error}", ratio=None)
    told = None if verdict.passed else f"{verdict.status}: {verdict.feedback.splitlines()[0]}"
    return Judged(program=program.path.stem, secret=secret, told=told, ratio=_ratio(verdict))


def _ratio(verdict: Verdict) -> float | None:
    if (correctness := verdict.correctness) is None:
        return None
    ratios = (correctness.max_error_ratio, correctness.rms_error_ratio)
    return max((ratio for ratio in ratios if ratio is not None), default=None)


def show(found: Sequence[Judged]) -> None:
    largest: dict[str, tuple[float, str]] = {}
    for judged in found:
        if judged.ratio is not None:
            largest[judged.program] = max(largest.get(judged.program, (0.0, "")), (judged.ratio, judged.secret))
    for name, (ratio, secret) in sorted(largest.items(), key=lambda item: -item[1][0]):
        if ratio >= NEAR:
            print(f"{ratio:6.2f} of its bound at most: {name} (secret {secret})")
    for judged in found:
        if judged.told is not None:
            print(f"REFUSED {judged.program} (secret {judged.secret}): {judged.told}")
    refused = sum(judged.told is not None for judged in found)
    print(f"{len(found)} judgements, {refused} refused")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--secret", help="one round under this secret, as a refusal names it")
    parser.add_argument("--only", nargs="+", help="these programs of tests/adversarial/honest")
    parser.add_argument("--out", type=Path, help="a JSON line a judgement is added to this file")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    paths = [path for path in HONEST if chosen.only is None or path.stem in chosen.only]
    programs = [read_honest(path) for path in paths]
    with Tracer(_SETTINGS) as tracer:
        traced = [tracer.trace(program.problem, program.candidate) for program in programs]
    secrets = [chosen.secret] if chosen.secret else [new_secret(0) for _ in range(chosen.rounds)]
    found: list[Judged] = []
    for number, secret in enumerate(secrets, 1):
        start = time.monotonic()
        latest = judged_once(programs, traced, secret=secret)
        found += latest
        refused = [judged.program for judged in latest if judged.told is not None]
        print(f"round {number} of {len(secrets)}: {time.monotonic() - start:.0f} s, refused {refused}", flush=True)
        if chosen.out is not None:
            with chosen.out.open("a") as file:
                file.writelines(json.dumps(dataclasses.asdict(judged)) + "\n" for judged in latest)
    show(found)
    return 1 if any(judged.told is not None for judged in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
