"""The command `rejudge`: judges the candidate of an evidence bundle anew on this machine and compares.

Trusts nothing in the bundle but its hashes against damage: the verdict on record is a claim, and this is its test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent import wording
from agent.blame import NOT_CORRECT_CODE
from agent.evidence import Bundle, BundleDamaged, read_bundle
from agent.judge_command import one_verdict, settings_for, show_page, tell_start
from agent.pairs import read_problem
from agent.verdict_page import verdict_page
from sandbox import strict_json
from sandbox.isolation import standing
from sandbox.types import Performance, Status, Tolerance, Verdict

# What the judge's settings take over from the bundle; the rest is this machine's matter.
TAKEN_OVER = ("num_seeds", "policy", "precision", "min_kernel_share", "capability", "baselines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`differences` contradict the record, `notes` only qualify the comparison."""

    verdict: Verdict
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return not self.differences

    @property
    def exit_code(self) -> int:
        """A candidate that is not correct is not made good by a record that says so too."""
        return 0 if self.agrees and self.verdict.passed else NOT_CORRECT_CODE


def rejudge(path: Path, *, isolation: str | None, as_json: bool, own_problem: Path | None) -> int:
    """The exit code. Raises BundleDamaged, and PairsError for `own_problem`.

    A problem's code runs as the user's own. Whoever does not trust the bundle's author names `own_problem`: that is
    judged on then, with its own tolerance, and a bundle that holds another text is refused before any of it runs.
    """
    bundle = _checked(read_bundle(path), path=path)
    if own_problem is not None:
        known = read_problem(own_problem)
        if known.source != bundle.problem.source:
            raise BundleDamaged(f"{path / 'problem.py'}: is not {own_problem}")
        bundle = replace(bundle, problem=replace(bundle.problem, tolerance=known.tolerance))
    options = taken_over(bundle, path=path) | {"isolation": isolation}
    try:
        settings = settings_for(options, seed=0)
    except ValueError as error:
        raise BundleDamaged(f"{path / 'settings.json'}: {' '.join(str(error).split())[:300]}") from error
    tell_start(f"{path} is whole; judging its candidate on {bundle.problem.id}")
    verdict, _ = asyncio.run(one_verdict(bundle.problem, bundle.candidate, settings=settings))
    found = compare(bundle.verdict, verdict)
    found = replace(found, notes=(*_loose_terms(bundle), *found.notes))
    if as_json:
        print(strict_json.dumps(comparison_json(bundle, found)))
        return found.exit_code
    page = verdict_page(
        verdict,
        problem=bundle.problem,
        candidate=bundle.candidate,
        capability=settings.capability,
        layers=standing(settings.isolation),
    )
    show_page(page)
    for line in comparison_lines(found):
        print(wording.printable(line))
    return found.exit_code


def _checked(bundle: Bundle, *, path: Path) -> Bundle:
    """The bundle, if its verdict can be compared with another. Raises BundleDamaged."""
    try:
        compare(bundle.verdict, bundle.verdict)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise BundleDamaged(f"{path / 'verdict.json'}: is no verdict: {error}") from error
    return bundle


def _loose_terms(bundle: Bundle) -> Iterator[str]:
    """Where the bundle's terms ask less of a candidate than what is usual: an author can choose them."""
    usual, given = asdict(Tolerance()), asdict(bundle.problem.tolerance)
    for name, value in given.items():
        if value > usual[name]:
            yield f"terms: tolerance.{name} is {value:g}; {usual[name]:g} is usual"
    defaults = asdict(settings_for({}, seed=0))
    for name in ("policy", "precision", "num_seeds", "min_kernel_share"):
        mine, default = bundle.settings[name], defaults[name]
        mine = tuple(mine) if isinstance(mine, list) else mine
        stricter = not isinstance(default, tuple | str) and mine > default  # seeds: a confirmation takes some more
        if mine != default and not stricter:
            yield f"terms: {name} is {mine}; {default} is usual"


def taken_over(bundle: Bundle, *, path: Path) -> dict[str, Any]:
    """Of the judge's settings on record, those that say what a verdict means. Raises BundleDamaged."""
    if missing := [name for name in TAKEN_OVER if name not in bundle.settings]:
        raise BundleDamaged(f"{path / 'settings.json'}: lacks {missing[0]}")
    return {name: bundle.settings[name] for name in TAKEN_OVER} | {"racing": False}


def compare(recorded: Verdict, verdict: Verdict) -> Comparison:
    return Comparison(
        verdict=verdict,
        differences=tuple(_differences(recorded, verdict)),
        notes=tuple(_notes(recorded, verdict)),
    )


def _differences(recorded: Verdict, verdict: Verdict) -> Iterator[str]:
    if verdict.status is not recorded.status:
        cannot = " (it could not be verified here, which is no proof against it)"
        tail = cannot if verdict.status is Status.UNVERIFIED else ""
        yield f"status: {recorded.status} on record, {verdict.status} here{tail}"
    before, here = recorded.performance, verdict.performance
    if before is None or here is None or not _comparable(before, here):
        return
    if here.speedup_low > before.speedup_high or here.speedup_high < before.speedup_low:
        yield (
            f"speedup: {wording.speedup_text(recorded)} on record, {wording.speedup_text(verdict)} here: "
            "the intervals have nothing in common"
        )


def _notes(recorded: Verdict, verdict: Verdict) -> Iterator[str]:
    yield f"error, largest share of its bound: {_ratios(recorded)} on record, {_ratios(verdict)} here"
    if recorded.plan_hash != verdict.plan_hash:
        told = f"plan: {recorded.plan_hash} on record, {verdict.plan_hash} here"
        yield f"{told}; Triton {_triton(recorded)} on record, {_triton(verdict)} here"
    before, here = recorded.performance, verdict.performance
    if before is None and here is None:
        yield "speedup: not timed, neither on record nor here"
    elif before is None or here is None:
        yield f"speedup: {wording.speedup_text(recorded)} on record, {wording.speedup_text(verdict)} here"
    elif not _comparable(before, here):
        yield (
            f"speedup: {wording.speedup_text(recorded)} against {before.against} on {_gpu(before)} on record, "
            f"{wording.speedup_text(verdict)} against {here.against} on {_gpu(here)} here: not compared"
        )
    else:
        yield f"speedup: {wording.speedup_text(recorded)} on record, {wording.speedup_text(verdict)} here"


def _comparable(before: Performance, here: Performance) -> bool:
    return _gpu(before) is not None and _gpu(before) == _gpu(here) and before.against == here.against


def _gpu(performance: Performance) -> str | None:
    return performance.conditions.get("gpu")


def _triton(verdict: Verdict) -> str:
    return "not stated" if verdict.correctness is None else verdict.correctness.conditions.get("triton", "not stated")


def _ratios(verdict: Verdict) -> str:
    if verdict.correctness is None or verdict.correctness.max_error_ratio is None:
        return "none"
    return f"{verdict.correctness.max_error_ratio:.3g}"


def comparison_lines(found: Comparison) -> Iterator[str]:
    yield ""
    yield from (f"differs: {difference}" for difference in found.differences)
    yield from (f"note: {note}" for note in found.notes)
    if found.agrees and found.verdict.passed:
        yield "agrees with the record"
    elif found.agrees:
        yield f"agrees with the record: {found.verdict.status}"


def comparison_json(bundle: Bundle, found: Comparison) -> Mapping[str, Any]:
    return {
        "agrees": found.agrees,
        "differences": list(found.differences),
        "notes": list(found.notes),
        "recorded": bundle.verdict.to_json(),
        "here": found.verdict.to_json(),
    }
