"""The section on arms whose answers are independent of each other: pass@k, fast_p@k, best@k, and hard or impossible.

Decides nothing. Says of the other arms why none of this holds for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from agent.at_k import AtK, best_of, faster_than
from agent.compare_charts import pass_at_k, pass_at_k_charts, percent
from agent.compare_parts import Part, Table
from agent.comparison import ArmFigures, Comparison
from agent.hard_or_impossible import FAR, MIN_PROBLEMS, REPLICATES, HardOrImpossible
from agent.statistics import FAST_P_LEVELS, Draws

KS_OF_SPEEDUPS = (1, 2, 5, 10, 20, 50)


def independent_part(found: Comparison) -> Part:
    """pass@k where it holds, and why not where it does not."""
    facts = tuple(_facts(found))
    drawn = [arm for arm in found.arms if arm.draws is not None]
    if not drawn:
        note = "No arm draws its answers independently of each other; see the replicas below."
        return Part(id="independent", title="pass@k", notes=(note,), facts=facts)
    tables = [_pass_table(found), *_fits_tables(drawn)]
    if found.timed and all(_all_timed(arm) for arm in drawn):
        tables += [_best_table(found, drawn), _fast_table(found, drawn)]
    return Part(
        id="independent", title="pass@k", notes=_notes(drawn), tables=tuple(tables),
        drawings=tuple(pass_at_k_charts(found)), facts=facts,
    )  # fmt: skip


def _facts(found: Comparison) -> Iterator[str]:
    """What an arm has not, and why."""
    for arm in found.arms:
        if arm.draws is None:
            yield f"{arm.arm}: no pass@k; {arm.why_no_draws}."
        elif arm.fits is None:
            yield f"{arm.arm}: hard and impossible problems are not told apart with fewer than {MIN_PROBLEMS} problems."


def _notes(drawn: Sequence[ArmFigures]) -> tuple[str, ...]:
    counts = ", ".join(f"{arm.arm} {_counts(arm)}" for arm in drawn)
    return (
        "Of drafts as judged, not confirmed: only a search's best is judged again. The unbiased estimate over the "
        "first drafts of each search, all seeds together, as many as nine in ten searches have; a problem with a "
        "shorter search counts as many as that one has, and at each k those problems count that have k answers (how "
        "many stands beside it where not all have). A prompt that the sampler refuses is a failure of its problem.",
        f"Answers to each problem: {counts}.",
    )


def _counts(arm: ArmFigures) -> str:
    nums = [drawn.num for drawn in _draws(arm).values()]
    return str(nums[0]) if min(nums) == max(nums) else f"{min(nums)} to {max(nums)}"


def _pass_table(found: Comparison) -> Table:
    total = len(found.problem_ids)
    rows = {arm: {k: percent(at.interval) + _of(at, total=total) for k, at in by_k.items()}
            for arm, by_k in pass_at_k(found).items()}  # fmt: skip
    return _table(rows, caption="pass@k with intervals over problems, as judged, not confirmed")


def _of(at: AtK, *, total: int) -> str:
    return "" if at.num_problems == total else f", {at.num_problems} of {total} problems"


def _table(rows: Mapping[str, Mapping[int, str]], *, caption: str) -> Table:
    """`rows` are cells by k."""
    ks = sorted({k for cells in rows.values() for k in cells})
    told = tuple((name, *(cells.get(k, "") for k in ks)) for name, cells in rows.items())
    return Table(caption=caption, head=("arm", *(f"@{k}" for k in ks)), rows=told)


def _all_timed(arm: ArmFigures) -> bool:
    return arm.draws is not None and all(len(d.speedups) == d.num_passed for d in arm.draws.values())


def _fits_tables(drawn: Sequence[ArmFigures]) -> list[Table]:
    """Of the arms with problems enough."""
    rows = tuple((arm.arm, *_fits_cells(arm.fits)) for arm in drawn if arm.fits is not None)
    caption = (
        "Hard or impossible: each answer passes with a chance drawn from a beta distribution, and a share of problems "
        "is impossible. p is of no impossible ones, and the intervals are of this model, both by parametric bootstrap "
        f"({REPLICATES} replicates; percentile intervals of few problems are too narrow); beside it what the rival "
        "says, for which all are merely hard. Where p is not small, the counts do not tell the two apart, and nothing "
        "is known of so many answers"
    )
    far = f"pass@{FAR}"
    head = ("arm", "impossible", "p", "alpha, beta", f"{far} by the fit", "alpha, beta if hard", f"{far} if hard")
    return [Table(caption=caption, head=head, rows=rows)] if rows else []


def _fits_cells(fits: HardOrImpossible) -> Iterator[str]:
    yield percent(fits.impossible)
    yield f"{fits.p_value:.3f}"
    yield f"{fits.with_impossible.alpha:.3g}, {fits.with_impossible.beta:.3g}"
    yield percent(fits.pass_far)
    yield f"{fits.hard_only.alpha:.3g}, {fits.hard_only.beta:.3g}"
    yield f"{fits.hard_only.pass_at_k(FAR):.1%}"


def _best_table(found: Comparison, drawn: Sequence[ArmFigures]) -> Table:
    total = len(found.problem_ids)
    rows = {}
    for arm in drawn:
        by_k = found.at_k(arm, ks=KS_OF_SPEEDUPS, estimate=best_of)
        rows[arm.arm] = {k: f"{at.interval}{_of(at, total=total)}" for k, at in by_k.items()}
    caption = (
        "best@k: the expected best speedup of k answers, 1 for a failed one, mean over problems with intervals over "
        "them, as judged, not confirmed: the largest of k noisy figures lies above what it would be confirmed at"
    )
    return _table(rows, caption=caption)


def _fast_table(found: Comparison, drawn: Sequence[ArmFigures]) -> Table:
    total = len(found.problem_ids)
    rows = {}
    for arm, p in itertools.product(drawn, FAST_P_LEVELS):
        by_k = found.at_k(arm, ks=KS_OF_SPEEDUPS, estimate=faster_than(p))
        rows[f"{arm.arm}, p = {p:g}"] = {k: percent(at.interval) + _of(at, total=total) for k, at in by_k.items()}
    caption = (
        "fast_p@k: the chance that one of k answers is right and faster than p, mean over problems with intervals over "
        "them, as judged, not confirmed"
    )
    return _table(rows, caption=caption)


def _draws(arm: ArmFigures) -> Mapping[str, Draws]:
    assert arm.draws is not None
    return arm.draws
