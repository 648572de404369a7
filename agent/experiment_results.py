"""Reads back what the cells of an experiment have on record, and compares its arms over the seeds that all have ended.

Knows nothing of how results are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.cell_figures import SearchFigures, read_cell
from agent.comparison import Comparison, compare
from agent.config import RunConfig
from agent.events import EndReason
from agent.experiment_config import Cell, Experiment
from agent.experiment_folder import ExperimentFolder
from agent.ledger import Ledger
from agent.run_command import settings_of
from agent.sampler_config import GenerationSection, RecordedSamplerConfig
from agent.strategy_config import BestOfNConfig
from agent.verdict_cache import Asked, Kind, VerdictCache
from sandbox.types import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Of the seeds that every arm has finished. `hours` are when each of them began and ended, `confirmed` how often
    confirmations were asked for and known."""

    experiment: Experiment
    root: Path
    comparison: Comparison
    searches: Mapping[str, tuple[SearchFigures, ...]]
    environment: Mapping[str, Any]
    hours: Mapping[int, tuple[datetime, datetime]]
    slots_note: str
    confirmed: Asked
    num_cells_finished: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """One for each search."""
        for arm, found in self.searches.items():
            name = self.experiment.arms[arm].strategy.name
            for search in found:
                yield row_of(search, strategy=name, currency=self.experiment.currency)

    def counts(self) -> dict[str, Any]:
        return {
            "cells_finished": self.num_cells_finished,
            "cells": len(self.experiment.cells),
            "problems": len(self.comparison.problem_ids),
            "seeds": list(self.comparison.seeds),
            "solved": {arm.arm: arm.solved.value for arm in self.comparison.arms},
        }

    def told(self) -> str:
        """Lines for a terminal."""
        found = [f"{arm.arm}: solved {arm.solved}, {arm.spend.tokens:,} tokens" for arm in self.comparison.arms]
        return "\n".join([f"{self.num_cells_finished} of {len(self.experiment.cells)} cells finished", *found])


def read_results(experiment: Experiment, *, folder: ExperimentFolder, problems: Sequence[Problem]) -> Results | None:
    """None as long as no seed is finished in all arms, or where no problem can be judged. Raises LedgerError."""
    finished = {cell for cell in experiment.cells if folder.finished(cell)}
    seeds = [s for s in experiment.seeds if all(Cell(arm=arm, seed=s) in finished for arm in experiment.arms)]
    if not seeds:
        return None
    searches = {arm: tuple(_searches(experiment, arm=arm, seeds=seeds, folder=folder)) for arm in experiment.arms}
    if all(search.end is EndReason.INADMISSIBLE for found in searches.values() for search in found):
        return None
    asked, confirmed = _asked(experiment, folder=folder, seeds=seeds)
    comparison = compare(
        searches, seeds=seeds, currency=experiment.currency, limit=experiment.limit, against=experiment.against,
        resamples=experiment.resamples, asked=asked,
        why_no_draws={arm: why_no_draws(config, num_seeds=len(seeds)) for arm, config in experiment.arms.items()},
        recorded=[arm for arm, c in experiment.arms.items() if isinstance(c.sampler, RecordedSamplerConfig)],
    )  # fmt: skip
    first = Cell(arm=next(iter(experiment.arms)), seed=seeds[0])
    return Results(
        experiment=experiment,
        root=folder.root,
        comparison=comparison,
        searches=searches,
        environment=folder.cell(first).read_environment(),
        hours={seed: _hours(experiment, seed=seed, folder=folder) for seed in seeds},
        slots_note=slots_note(experiment),
        confirmed=confirmed,
        num_cells_finished=len(finished),
    )


def why_no_draws(config: RunConfig, *, num_seeds: int) -> str | None:
    """Why an arm's answers are not independent of each other; None where they are, and pass@k holds."""
    strategy, sampler = config.strategy, config.sampler
    if not isinstance(strategy, BestOfNConfig):
        return f"{strategy.name} decides by what came before"
    if strategy.stop_when_passed:
        return "it stops at the first pass, so how many answers there are depends on what they were"
    if strategy.fix:
        return "fixes depend on the drafts that they mend"
    if isinstance(sampler, RecordedSamplerConfig) and num_seeds > 1:
        return "recorded answers are the same with every seed"
    if isinstance(sampler, GenerationSection) and sampler.temperature == 0:
        return "at temperature 0 answers are the same each time"
    return None


def slots_note(experiment: Experiment) -> str:
    widths = [config.sampler.concurrency for config in experiment.arms.values()]
    each = max(1, min(widths) // len(widths))
    return (
        f"Each arm had at most {each} answers in flight: the narrowest sampler's concurrency of {min(widths)}, divided "
        f"by {len(widths)} arms (times the number of engines with sampler.kind: vllm), also when other arms had ended."
    )


def row_of(search: SearchFigures, *, strategy: str, currency: str) -> dict[str, Any]:
    """Plain data, for JSON lines and CSV."""
    return {
        "arm": search.cell.arm,
        "strategy": strategy,
        "seed": search.cell.seed,
        "problem": search.problem_id,
        "solved": search.solved,
        "confirmed": search.confirmed,
        "speedup": search.speedup,
        f"{currency}_at_first_pass": search.first_pass(currency),
        "refuted": search.num_refuted,
        "samples": search.spend.samples,
        "tokens": search.spend.tokens,
        "judged": search.spend.judged,
        "gpu_seconds": search.spend.gpu_seconds,
        "wall_seconds": search.spend.wall_seconds,
        "end": None if search.end is None else search.end.value,
    }


def _searches(
    experiment: Experiment, *, arm: str, seeds: Sequence[int], folder: ExperimentFolder
) -> Iterator[SearchFigures]:
    for seed in seeds:
        cell = Cell(arm=arm, seed=seed)
        with Ledger.open_read_only(folder.cell(cell).ledger) as ledger:
            yield from read_cell(ledger, cell=cell, currency=experiment.currency, limit=experiment.limit)


def _asked(experiment: Experiment, *, folder: ExperimentFolder, seeds: Sequence[int]) -> tuple[dict[str, Asked], Asked]:
    """By arm in the searches, and of all confirmations together."""
    cache = VerdictCache.open(folder.verdicts, settings=settings_of(experiment.base))
    try:
        searches, confirmations = cache.asked(Kind.SEARCH), cache.asked(Kind.CONFIRM)
    finally:
        cache.close()
    by_arm = {}
    for arm in experiment.arms:
        by_arm[arm] = _sum([searches.get(str(Cell(arm=arm, seed=seed))) for seed in seeds])
    return by_arm, _sum(list(confirmations.values()))


def _sum(found: Sequence[Asked | None]) -> Asked:
    counted = [asked for asked in found if asked is not None]
    return Asked(num=sum(asked.num for asked in counted), num_hits=sum(asked.num_hits for asked in counted))


def _hours(experiment: Experiment, *, seed: int, folder: ExperimentFolder) -> tuple[datetime, datetime]:
    facts = [folder.facts(Cell(arm=arm, seed=seed)) for arm in experiment.arms]
    began = min(datetime.fromisoformat(fact["began"]) for fact in facts)
    return began, max(datetime.fromisoformat(fact["ended"]) for fact in facts)
