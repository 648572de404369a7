"""pass@k and fast_p@k of a run whose answers were drawn independently; what is said where they were not.

Decides nothing about the run. Estimators are those of `agent.at_k`, and which drafts count is said by
`agent.first_drafts`, as in a comparison of arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.at_k import AtK, Estimate, at_k, faster_than, most_k, passing
from agent.first_drafts import Drafts, draws_of
from agent.html_charts import ChartView
from agent.statistics import FAST_P_LEVELS, Draws
from agent.svg_chart import Axis, Series, curve_chart

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same ledger gives the same page
MAX_KS = 40  # points of a curve


def why_not_independent(
    config: Mapping[str, Any], *, drafts: Mapping[str, Drafts] | None, all_ended: bool
) -> str | None:
    """Why pass@k says nothing of this run; None where every answer was drawn independently of the others."""
    strategy = config.get("strategy") or {}
    name = strategy.get("name", "not named")
    if name != "best_of_n" or drafts is None:
        return (
            f"The strategy ({name}) decides by what came before, so its samples are not independent and pass@k does "
            "not hold for them. What it reaches with how much stands under Progress; other seeds of the same "
            "configuration would give replicas of that curve."
        )
    if strategy.get("stop_when_passed"):
        return (
            "The strategy stopped at the first pass (stop_when_passed), so the number of samples depends on what they "
            "were, and pass@k would come out too large."
        )
    if _turns_by_outcome(config, all_ended=all_ended):
        return (
            "Turns went to unsolved problems first (allocator: expected_gain), and ended with the run's budget or "
            "before it, so how often a problem was drawn depends on what its samples were, and pass@k would come out "
            "wrong."
        )
    if (config.get("sampler") or {}).get("temperature") == 0:
        return "At temperature 0 the samples of a problem are the same each time, so there is no pass@k."
    if not any(found.num for found in draws_of_run(config, drafts=drafts).values()):
        return "No problem's first draft was judged."
    return None


def _turns_by_outcome(config: Mapping[str, Any], *, all_ended: bool) -> bool:
    limited = any(limit is not None for limit in (config.get("run_budget") or {}).values())
    return (config.get("allocator") or {}).get("name") == "expected_gain" and (limited or not all_ended)


def draws_of_run(config: Mapping[str, Any], *, drafts: Mapping[str, Drafts]) -> dict[str, Draws]:
    recorded = (config.get("sampler") or {}).get("kind") == "recorded"
    return draws_of({problem_id: [found] for problem_id, found in drafts.items()}, recorded=recorded)


def sample_note(draws: Mapping[str, Draws]) -> str:
    """Which problems are counted, and up to which k."""
    counted = [drawn.num for drawn in draws.values() if drawn.num]
    left_out = len(draws) - len(counted)
    least, most = min(counted), max(counted)
    each = f"{most} drafts each" if least == most else f"{least} to {most} drafts each, k up to {most_k(draws)}"
    others = f"; {left_out} without a judged draft are left out" if left_out else ""
    band = ""
    if len(counted) > 1:
        band = f" Bands and brackets are {CONFIDENCE:.0%} intervals over problems (percentile, {RESAMPLES} resamples)."
    return (
        f"Over {len(counted)} problems with {each}{others}. As judged, not confirmed; the first drafts of each problem "
        "in the order of proposals, as many as nine in ten problems have; at each k those problems count that have k. "
        f"A prompt that the sampler refuses is a failure of its problem.{band}"
    )


def sample_charts(draws: Mapping[str, Draws]) -> Iterator[ChartView]:
    """pass@k; and where every pass was timed, fast_p@k. Raises ValueError without any answer."""
    yield _chart("pass@k", draws=draws, estimates={"pass@k": passing})
    if not any(drawn.speedups for drawn in draws.values()):
        return
    if all(len(drawn.speedups) == drawn.num_passed for drawn in draws.values()):
        yield _chart("fast_p@k", draws=draws, estimates={f"p = {p:g}": faster_than(p) for p in FAST_P_LEVELS})


def _chart(name: str, *, draws: Mapping[str, Draws], estimates: Mapping[str, Estimate]) -> ChartView:
    """Of one problem there is no interval over problems; bands of several curves could not be told apart."""
    ks = _ks(most_k(draws))
    curves = {
        curve: at_k(draws, ks=ks, estimate=estimate, seed=SEED, resamples=RESAMPLES, confidence=CONFIDENCE)
        for curve, estimate in estimates.items()
    }
    band = len(curves) == 1 and all(at.num_problems > 1 for by_k in curves.values() for at in by_k.values())
    series = [_series(curve, by_k, band=band) for curve, by_k in curves.items()]
    counts = next(iter(curves.values()))
    told = f"{counts[ks[0]].interval.value:.1%} at k = 1, {counts[ks[-1]].interval.value:.1%} at k = {ks[-1]}"
    if len(curves) > 1:
        told = f"{next(iter(curves))}: {told}"
    drawing = curve_chart(
        series, name=name, told=told, stepped=False,
        x=Axis(label="k: answers to each problem", least=1.0, whole=True), y=Axis(label="% of problems", most=100.0),
    )  # fmt: skip
    rows = tuple((str(k), *(_cell(by_k[k]) for by_k in curves.values()), str(counts[k].num_problems)) for k in ks)
    return ChartView(name=name, told=told, drawing=drawing, head=("k", *curves, "problems"), rows=rows)


def _series(curve: str, by_k: Mapping[int, AtK], *, band: bool) -> Series:
    points = tuple((float(k), 100 * at.interval.value) for k, at in by_k.items())
    bounds = tuple((100 * at.interval.low, 100 * at.interval.high) for at in by_k.values()) if band else ()
    return Series(name=curve, points=points, bounds=bounds)


def _cell(at: AtK) -> str:
    interval = at.interval
    return f"{interval.value:.1%}" + (f" ({interval.low:.1%} to {interval.high:.1%})" if at.num_problems > 1 else "")


def _ks(most: int) -> Sequence[int]:
    """From 1 to `most`, all of them or evenly chosen."""
    if most <= MAX_KS:
        return range(1, most + 1)
    return sorted({round(1 + (most - 1) * number / (MAX_KS - 1)) for number in range(MAX_KS)})
