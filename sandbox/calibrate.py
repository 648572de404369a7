"""Admits a problem, or says why it cannot be judged: null programs must fail under the very predicate in use.

Chooses the stress kinds that a problem's cases need for that, once a problem and precision; all its candidates are then
judged on cases of those kinds. Makes no verdicts on candidates.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from sandbox.calibration import Calibration
from sandbox.compare import Expected, agrees, all_finite, compare, expect, held
from sandbox.null_programs import NullProgram, Trial, null_programs
from sandbox.reference import Case, InadmissibleProblem, Reference
from sandbox.stress import FIRST_CHOICE, NUM_SCALED, STRESS, scaled_kinds
from sandbox.thresholds import Thresholds

MAX_ADDED = len(STRESS) + NUM_SCALED  # cases that calibration may add to those asked for, each on a seed of its own
_KEPT_BYTES = 16 << 30  # of inputs; calibration adds no case beyond that
_TRIAL_BYTES = 2 << 30  # of inputs and outputs; a larger trial makes what is elsewhere whenever it is asked for
_SEED_ELSEWHERE = 0x5EA


def admit(
    reference: Reference,
    known: Calibration,
    *,
    made: Sequence[Case] | None,
    seeds: Sequence[int],
    vary: frozenset[str],
    precision: str,
) -> list[Case]:
    """The cases for candidates that take the weights `vary` by name, of the kinds that calibration found.

    `made` are the cases that `calibrate` made, if it has just run: they fit candidates that take all weights by name.
    Raises InadmissibleProblem where the problem is not admitted.
    """
    if not known.admitted:
        raise InadmissibleProblem(str(known.reason))
    if made is not None and vary >= reference.weight_names:
        return list(made)
    cases = (
        reference.case(kind, seed=seed, vary=vary, precision=precision)
        for kind, seed in zip(known.kinds, seeds, strict=False)
    )
    found = []
    for case in cases:
        if case is not None:
            _check(reference.run(case), case.expected)
            found.append(_hiding(reference, known, case, vary=vary))
    return found


def _hiding(reference: Reference, known: Calibration, case: Case, *, vary: frozenset[str]) -> Case:
    """`case` with the buffers hidden that are constant as built, that no candidate of this sort takes by name, and that
    are known to matter."""
    names = [
        name
        for name, t in reference.constructed(case).items()
        if name in known.seen_weights and name not in (*case.hidden, *vary) and bool((t == t.reshape(-1)[0]).all())
    ]
    return replace(case, hidden=(*case.hidden, *names))


def calibrate(
    reference: Reference, *, seeds: Sequence[int], num_cases: int, precision: str
) -> tuple[Calibration, list[Case]]:
    """Calibrates with all weights varied. Cases come back also where the problem is not admitted.

    Every second one of the first `num_cases` cases is a stress. What these do not reject makes further kinds of stress
    be tried, each on a seed of its own; those that reject something are kept.
    """
    start = time.monotonic()
    cases: list[Case] = []
    tried: set[str] = set()
    programs: list[NullProgram] = []
    pending: list[NullProgram] = []
    for index, seed in enumerate(seeds[:num_cases]):
        case = _first_case(reference, index, seed=seed, precision=precision)
        if not cases:
            programs = pending = null_programs(reference, _trial(reference, case))
        pending = _not_rejected(reference, pending, case, tried=tried)
        cases.append(case)
    used = {case.kind for case in cases}
    for kind in (kind for kind in _further_kinds(reference, cases[0]) if kind not in used):
        if not pending or len(cases) >= len(seeds) or _num_bytes(cases) > _KEPT_BYTES:
            break
        more = _telling_case(reference, kind, pending, seed=seeds[len(cases)], precision=precision)
        if more is None:
            continue
        try:
            left = _not_rejected(reference, pending, more, tried=tried)
        except InadmissibleProblem:  # that kind is none for this problem
            continue
        if len(left) < len(pending):
            cases.append(more)
            pending = left
    return _calibration(cases, programs, pending, tried=tried, seconds=time.monotonic() - start), cases


def _calibration(
    cases: Sequence[Case],
    programs: Sequence[NullProgram],
    pending: Sequence[NullProgram],
    *,
    tried: set[str],
    seconds: float,
) -> Calibration:
    left = {program.name for program in pending}
    idle = sum(program.name not in tried for program in pending)  # had nothing to say on any case
    passed = tuple(p.name for p in pending if p.bars and p.name in tried)
    reason = None
    if passed:
        more = f" and {len(passed) - 3} more" if len(passed) > 3 else ""
        kinds = ", ".join(dict.fromkeys(case.kind for case in cases))
        reason = f"null programs would pass ({', '.join(passed[:3])}{more}) on inputs of every kind tried ({kinds})"
    return Calibration(
        admitted=not passed,
        reason=reason,
        num_nulls=len(programs) - idle,
        num_rejected=len(programs) - len(pending),
        passed=passed,
        unseen=tuple(p.name for p in pending if not p.bars and p.name in tried),
        seen_weights=tuple(p.weight for p in programs if p.weight is not None and p.name not in left),
        kinds=tuple(case.kind for case in cases),
        seconds=seconds,
    )


def _first_case(reference: Reference, index: int, *, seed: int, precision: str) -> Case:
    """Case number `index` of those that every problem has: every second one is a stress, if the problem stands one."""
    every = reference.weight_names
    if index % 2 == 1:
        for kind in FIRST_CHOICE:
            case = reference.case(kind, seed=seed, vary=every, precision=precision)
            if case is not None:
                return case
    given = reference.case("given", seed=seed, vary=every, precision=precision)
    assert given is not None
    return given


def _further_kinds(reference: Reference, case: Case) -> Iterator[str]:
    """The kinds that may be added, in the order in which they are tried. Those that reach the thresholds of the
    reference's own graph come last: they cost a run more, and few problems need them."""
    yield from STRESS
    thresholds = Thresholds()
    try:
        reference.run(case, under=thresholds)
    except InadmissibleProblem:  # a threshold that cannot be looked at
        return
    if (scales := thresholds.scales) is not None:
        yield from scaled_kinds(*scales)


def _check(own: Sequence[torch.Tensor], expected: Sequence[Expected]) -> None:
    """Raises InadmissibleProblem unless the reference passes with what it gives in its declared dtype."""
    if (failure := compare(own, expected).failure) is not None:
        raise InadmissibleProblem(f"the reference does not agree with itself: {failure.message}")


def _num_bytes(cases: Sequence[Case]) -> int:
    return sum(t.nbytes for case in cases for t in case.inputs)


def _trial(reference: Reference, case: Case) -> Trial:
    own = reference.run(case)
    kept = functools.cache if sum(t.nbytes for t in (*case.inputs, *own)) <= _TRIAL_BYTES else lambda make: make
    others = kept(lambda: reference.inputs(case.seed ^ _SEED_ELSEWHERE, kind=case.kind))
    elsewhere = kept(lambda: reference.run(case, inputs=others()))
    return Trial(reference=reference, case=case, own=own, other_inputs=others, elsewhere=elsewhere)


def _not_rejected(
    reference: Reference, pending: Sequence[NullProgram], case: Case, *, tried: set[str]
) -> list[NullProgram]:
    """The null programs that pass on `case`, on which the reference must pass. Notes in `tried` those that had outputs
    to compare. Raises InadmissibleProblem."""
    expected = held(case.expected)  # large values are computed: once
    trial = _trial(reference, case)
    _check(trial.own, expected)
    values = [want.answer().to(trial.own[0].device) for want in expected]
    return [program for program in pending if _passes(program, trial, values, expected, tried=tried)]


def _passes(
    program: NullProgram, trial: Trial, values: Sequence[torch.Tensor], expected: Sequence[Expected], *, tried: set[str]
) -> bool:
    try:
        outputs = program.outputs(trial)
    except InadmissibleProblem:  # without that operation the rest fails: no program to pass
        return False
    if outputs is None:
        return True
    tried.add(program.name)
    return all(agrees(output, expected[at], values[at]) for at, output in outputs.items())


def _telling_case(
    reference: Reference, kind: str, pending: Sequence[NullProgram], *, seed: int, precision: str
) -> Case | None:
    """The case of that kind, if on its inputs some of the null programs differ from the reference at all.

    Seen without the float64 answer, which costs most. A kind that tells nothing here tells nothing under wider bounds.
    """
    drawn = reference.draw(kind, seed=seed, vary=reference.weight_names)
    if not _tells(reference, drawn, pending):
        return None
    try:
        case = reference.answered(drawn, precision=precision)
    except InadmissibleProblem:
        return None
    return case if all(want.all_finite for want in case.expected) else None


def _tells(reference: Reference, drawn: Case, pending: Sequence[NullProgram]) -> bool:
    """Whether the reference's own answer is finite and rejects some of the null programs."""
    try:
        trial = _trial(reference, drawn)
    except InadmissibleProblem:
        return False
    if not all(map(all_finite, trial.own)):
        return False
    least = [
        expect("", own, (own,), reference.problem.tolerance, recompute=lambda own=own: own)  # type: ignore[misc]
        for own in trial.own
    ]
    return not all(_passes(program, trial, trial.own, least, tried=set()) for program in pending)
