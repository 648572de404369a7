"""What an experiment's page says, section by section: one text for Markdown and HTML alike.

Decides nothing and knows neither of the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from agent import wording
from agent.compare_charts import (
    coverage_charts,
    paired_coverage_charts,
    percent,
    published_chart,
    replica_charts,
    speedup_charts,
)
from agent.compare_independent import independent_part
from agent.compare_parts import Part, Table
from agent.comparison import CONFIDENCE, Comparison, Difference, words_of
from agent.experiment_results import Results
from agent.published import KERNELLLM_CARD
from agent.report import plain
from agent.statistics import FAST_P_LEVELS


def parts_of(results: Results) -> Iterator[Part]:
    yield _overview(results)
    yield _differences(results)
    yield _curves(results.comparison)
    yield independent_part(results.comparison)
    yield _replicas(results.comparison)
    yield _problems(results.comparison)
    if results.experiment.published:
        yield _published(results.comparison)
    yield _conditions(results)


def headline(results: Results) -> str:
    found, experiment = results.comparison, results.experiment
    return (
        f"{len(found.arms)} arms, {len(found.seeds)} seeds, {len(found.problem_ids)} problems, "
        f"{experiment.limit:,g} {words_of(experiment.currency)} on each problem"
    )


def _overview(results: Results) -> Part:
    found = results.comparison
    notes = [
        f"Means over problems of the mean over seeds; in brackets {CONFIDENCE:.0%} intervals by bootstrap over "
        f"{len(found.problem_ids)} problems, each taken with all its seeds ({found.resamples} resamples). They say how "
        "the figure would vary over other problems of this kind. Percentile intervals of few problems are too narrow.",
        f"Only what came within the budget counts. Searches spent {sum(a.overrun for a in found.arms):,.0f} "
        f"{words_of(found.currency)} beyond it in all, on answers that were in flight; what those brought is left out.",
    ]
    if not found.timed:
        notes.append("Nothing was timed, so there is no speedup, and no figure below is one.")
    left = len(results.experiment.cells) - results.num_cells_finished
    if left:
        notes.append(
            f"{left} of {len(results.experiment.cells)} cells are not finished: compared are complete seeds only."
        )
    if found.left_out:
        notes.append(f"Left out of everything, because they cannot be judged: {', '.join(found.left_out)}.")
    tables = [_arms_table(found)] + ([_speedup_table(found)] if found.timed else [])
    return Part(id="overview", title="Arms", notes=tuple(notes), tables=(*tables, _spend_table(found)))


def _arms_table(found: Comparison) -> Table:
    areas = [name for name in found.arms[0].measures if name.startswith("area of solved")]
    head = ("arm", "solved", "solved by seed", "by any seed", *areas)
    rows = tuple(
        (
            arm.arm + (" (reference)" if arm.arm == found.against else ""),
            percent(arm.solved),
            " ".join(map(str, arm.by_seed)),
            str(sum(count > 0 for count in arm.solved_by_problem.values())),
            *(str(arm.intervals[name]) for name in areas),
        )
        for arm in found.arms
    )
    caption = (
        "Solved within the budget and, where it was judged again, confirmed. An area is the mean share of the budget "
        "that was left when a problem's first pass came, 0 where none came"
    )
    return Table(caption=caption, head=head, rows=rows)


def _speedup_table(found: Comparison) -> Table:
    areas = [name for name in found.arms[0].measures if name.startswith("area of log")]
    head = ("arm", "mean speedup, all", "mean speedup, solved", *(f"fast_{p:g}" for p in FAST_P_LEVELS), *areas)
    rows = []
    for arm in found.arms:
        assert arm.speedups is not None
        s = arm.speedups
        solved = "none" if s.over_solved is None else f"{s.over_solved:.3f} of {s.num_solved}"
        faster = (percent(s.faster[p]) for p in FAST_P_LEVELS)
        rows.append((arm.arm, str(s.over_all), solved, *faster, *(str(arm.intervals[name]) for name in areas)))
    caption = (
        "Geometric means of the best speedups, over all searches with 1x for the unsolved, and over the solved alone, "
        "which rises when hard problems are left unsolved. fast_p: the share of problems faster than p. All as "
        "confirmed, where a search's best was judged again; in an area nothing counts above what was then confirmed"
    )
    return Table(caption=caption, head=head, rows=tuple(rows))


def _spend_table(found: Comparison) -> Table:
    head = ("arm", "tokens", "answers", "judged", "asked of the cache", "known there", "GPU seconds", "refuted")
    rows = tuple(
        (
            arm.arm,
            f"{arm.spend.tokens:,}",
            f"{arm.spend.samples:,}",
            f"{arm.spend.judged:,}",
            f"{arm.asked.num:,}",
            f"{arm.asked.num_hits:,} ({_share(arm.asked.num_hits, arm.asked.num)})",
            f"{arm.spend.gpu_seconds:,.1f}",
            str(arm.num_refuted),
        )
        for arm in found.arms
    )
    caption = (
        "All searches together. A verdict that was known, from whatever arm, is the same verdict, and is charged as "
        "the first judging was. Refuted: passed in a search, and failed when judged again on other seeds"
    )
    return Table(caption=caption, head=head, rows=rows)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _differences(results: Results) -> Part:
    found = results.comparison
    if not found.differences:
        return Part(id="differences", title="Differences", notes=("There is one arm: nothing to compare it with.",))
    num = len({difference.arm for difference in found.differences})
    notes = (
        f"Each arm less {found.against}, problem by problem, so that what problems differ by drops out. p is of a "
        "sign-flip test over problems (exact for few), which holds where bootstrap intervals are too narrow; no figure "
        f"is corrected for there being {num} arms and several measures.",
        "Arms with the same model and settings draw the same first drafts with the same seed, so they differ in what "
        "they do with them.",
    )
    head = ("arm", "measure", "difference", "problems better", "worse", "p")
    rows = tuple(_difference_row(difference) for difference in found.differences)
    caption = f"Paired differences to {found.against}; * where the interval excludes none"
    return Part(
        id="differences", title="Differences", notes=notes, tables=(Table(caption=caption, head=head, rows=rows),)
    )


def _difference_row(d: Difference) -> tuple[str, ...]:
    shown = f"times {d.interval.mapped(np.exp)}" if d.measure == "log speedup" else _signed(d)
    measure = "mean speedup, all" if d.measure == "log speedup" else d.measure
    star = " *" if d.interval.excludes_zero else ""
    return d.arm, measure, shown + star, str(d.num_better), str(d.num_worse), f"{d.p_value:.3f}"


def _signed(d: Difference) -> str:
    return f"{d.interval.value:+.3f} [{d.interval.low:+.3f}, {d.interval.high:+.3f}]"


def _curves(found: Comparison) -> Part:
    notes = [
        "The share of problems solved by what each search had spent, mean over seeds; bands are intervals. What a "
        "confirmation refuted is left out, and a search of which nothing was confirmed solved nothing."
    ]
    if "gpu_seconds" not in found.limits:
        notes.append("No GPU was used, so there are no curves by GPU seconds.")
    if found.timed:
        notes.append(
            "A mean speedup is geometric, with 1x for what is not solved yet; a kernel counts as it was judged, but "
            "not above what was confirmed in the end."
        )
    return Part(
        id="curves",
        title="Best so far",
        notes=tuple(notes),
        charts=(*coverage_charts(found), *(speedup_charts(found) if found.timed else ())),
        drawings=tuple(paired_coverage_charts(found)),
    )


def _replicas(found: Comparison) -> Part:
    if len(found.seeds) < 2:
        return Part(id="replicas", title="Replicas", notes=("There is one seed, so there are no replicas.",))
    note = (
        "What one of k whole searches with other seeds solves, at k times the budget: the curve of a strategy whose "
        "answers depend on each other, and no pass@k. The estimate is unbiased for k up to the number of seeds."
    )
    return Part(id="replicas", title="Replicas", notes=(note,), charts=tuple(replica_charts(found)))


def _problems(found: Comparison) -> Part:
    num = len(found.seeds)
    rows = tuple((id, *(f"{arm.solved_by_problem[id]}" for arm in found.arms)) for id in found.problem_ids)
    caption = f"In how many of {num} searches each problem was solved"
    table = Table(caption=caption, head=("problem", *(arm.arm for arm in found.arms)), rows=rows)
    counts = [[arm.solved_by_problem[id] for arm in found.arms] for id in found.problem_ids]
    same = sum(set(row) in ({0}, {num}) for row in counts)
    note = (
        f"{same} of {len(found.problem_ids)} problems were solved by all searches of all arms, or by none: they do not "
        "tell arms apart."
    )
    return Part(id="problems", title="Problems", notes=(note,), tables=(table,))


def _published(found: Comparison) -> Part:
    table = KERNELLLM_CARD
    notes = (
        f"Published, not measured here: {table.source}. {table.terms}. The problems, the judge and the model of this "
        "experiment are others, so nothing follows from a curve lying above or below a diamond.",
    )
    rows = tuple(
        (point.model, point.parameters, "not told" if point.k is None else str(point.k), f"{point.score:g}")
        for point in table.points
    )
    shown = Table(caption="As published", head=("model", "parameters", "k", "score, %"), rows=rows)
    chart = published_chart(found, table=table)
    return Part(id="published", title="Published elsewhere", notes=notes, tables=(shown,), drawings=(chart,))


def _conditions(results: Results) -> Part:
    experiment = results.experiment
    facts = [
        f"budget on each problem of each cell: {experiment.limit:,g} {words_of(experiment.currency)}",
        f"problems: {', '.join(results.comparison.problem_ids)}",
        *(f"arm {arm}: strategy {plain(c.strategy.model_dump())}" for arm, c in experiment.arms.items()),
        *(f"arm {arm}: sampler {plain(_without_paths(c.sampler.model_dump()))}" for arm, c in experiment.arms.items()),
        f"judge: {plain(experiment.base.judge.model_dump(exclude={'cache_dir'}))}; its seed {experiment.base.seed}",
        f"one pool ({experiment.base.ray.pool}) and one cache of verdicts for all cells; no racing, which would end a "
        "timing against the best of any arm",
        f"confirm: {plain(experiment.base.confirm.model_dump())}; {results.confirmed.num} confirmations, of which "
        f"{results.confirmed.num_hits} were known from another cell",
        f"order: seeds in turn, all arms of a seed at the same time. {results.slots_note}",
        *(
            f"seed {seed}: from {began:%Y-%m-%d %H:%M:%S} UTC, {wording.duration_text((ended - began).total_seconds())}"
            for seed, (began, ended) in results.hours.items()
        ),
        *(f"{key}: {plain(value)}" for key, value in results.environment.items() if value is not None),
        f"to reproduce: {experiment.command}",
    ]
    return Part(id="conditions", title="Conditions", facts=tuple(facts))


def _without_paths(sampler: dict[str, object]) -> dict[str, object]:
    """Only a path's last part: where a checkpoint lay says nothing about the figures. What is empty is left out."""
    kept = {key: value for key, value in sampler.items() if value not in ({}, [])}
    return {key: value.rsplit("/", 1)[-1] if isinstance(value, str) else value for key, value in kept.items()}
