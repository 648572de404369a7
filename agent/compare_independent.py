"""The section on arms whose answers are independent of each other: pass@k, fast_p@k, best@k, and hard or impossible.

Decides nothing. Says of the other arms why none of this holds for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.compare_charts import pass_at_k, pass_at_k_charts, percent
from agent.compare_parts import Part, Table
from agent.comparison import ArmFigures, Comparison
from agent.statistics import FAST_P_LEVELS, Draws, best_at_k, fast_p_at_k


def independent_part(found: Comparison) -> Part:
    """pass@k where it holds, and why not where it does not."""
    facts = tuple(f"{arm.arm}: no pass@k; {arm.why_no_draws}." for arm in found.arms if arm.draws is None)
    drawn = [arm for arm in found.arms if arm.draws is not None]
    if not drawn:
        note = "No arm draws its answers independently of each other; see the replicas below."
        return Part(id="independent", title="pass@k", notes=(note,), facts=facts)
    nums = ", ".join(f"{arm.arm} {_num_draws(arm)}" for arm in drawn)
    notes = (
        "The unbiased estimate over the first answers of each search, as many in every search, all seeds together; "
        f"k is at most the number of answers to each problem: {nums}.",
    )
    by_arm = pass_at_k(found)
    ks = sorted({k for by_k in by_arm.values() for k in by_k})
    rows = tuple((arm, *(percent(by_k[k]) if k in by_k else "" for k in ks)) for arm, by_k in by_arm.items())
    tables = [
        Table(caption="pass@k with intervals over problems", head=("arm", *(f"@{k}" for k in ks)), rows=rows),
        _fits_table(drawn),
    ]
    if found.timed and all(_all_timed(arm) for arm in drawn):
        tables += [_best_table(drawn), _fast_table(drawn)]
    drawn_as = tuple(pass_at_k_charts(found))
    return Part(id="independent", title="pass@k", notes=notes, tables=tuple(tables), drawings=drawn_as, facts=facts)


def _num_draws(arm: ArmFigures) -> int:
    return min(drawn.num for drawn in _draws(arm))


def _all_timed(arm: ArmFigures) -> bool:
    return arm.draws is not None and all(len(d.speedups) == d.num_passed for d in arm.draws.values())


def _fits_table(drawn: list[ArmFigures]) -> Table:
    rows = []
    for arm in drawn:
        assert arm.fits is not None
        fit = arm.fits.with_impossible
        far = f"{fit.pass_at_k(1000):.1%}"
        shape = f"{fit.alpha:.3g}, {fit.beta:.3g}"
        rows.append((arm.arm, f"{fit.impossible:.1%}", f"{arm.fits.p_value:.3f}", shape, far))
    caption = (
        "Hard or impossible: each answer passes with a chance drawn from a beta distribution, and a share of problems "
        "is impossible. p is of no impossible ones; few problems tell the two hardly apart"
    )
    return Table(
        caption=caption, head=("arm", "impossible", "p", "alpha, beta", "pass@1000 by the fit"), rows=tuple(rows)
    )


def _best_table(drawn: Sequence[ArmFigures]) -> Table:
    ks = _ks(drawn)
    rows = tuple((arm.arm, *(f"{best_at_k(_draws(arm), k):.3f}" for k in ks)) for arm in drawn)
    caption = "best@k: the expected best speedup of k answers, 1 for a failed one, mean over problems"
    return Table(caption=caption, head=("arm", *(f"@{k}" for k in ks)), rows=rows)


def _fast_table(drawn: Sequence[ArmFigures]) -> Table:
    ks = _ks(drawn)
    rows = tuple(
        (f"{arm.arm}, p = {p:g}", *(f"{fast_p_at_k(_draws(arm), k, p=p):.1%}" for k in ks))
        for arm in drawn
        for p in FAST_P_LEVELS
    )
    caption = "fast_p@k: the chance that one of k answers is right and faster than p, mean over problems"
    return Table(caption=caption, head=("arm", *(f"@{k}" for k in ks)), rows=rows)


def _ks(drawn: Sequence[ArmFigures]) -> list[int]:
    most = min(_num_draws(arm) for arm in drawn)
    return [k for k in (1, 2, 5, 10, 20, 50) if k < most] + [most]


def _draws(arm: ArmFigures) -> list[Draws]:
    assert arm.draws is not None
    return list(arm.draws.values())
