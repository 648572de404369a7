"""Runs the cells of an experiment: seed by seed, all arms of a seed side by side, over one pool and shared samplers.

A cell is an ordinary run with a folder of its own. Knows nothing of how cells are compared or shown. That the arms of a
seed run at the same time is what makes drift (a machine that gets busy, a server that gets slow) hit all alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent import report
from agent.confirm import Confirmer
from agent.controller import Controller
from agent.events import Event, Outcome, RunSummary
from agent.experiment_config import Cell, Experiment
from agent.experiment_folder import ExperimentFolder
from agent.ledger import Ledger
from agent.pool import confirming
from agent.run_command import plan_of
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.shared_pool import SharedPool
from agent.shared_sampler import SharedSamplers
from sandbox.settings import JudgeSettings
from sandbox.types import Problem

Tell = Callable[[Cell, Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an experiment ended. `error` is one line, of the first cell that failed."""

    outcome: Outcome
    error: str | None


class ExperimentRun:
    """One experiment, from wherever its folder stands to its end. Used once."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        problems: list[Problem],
        folder: ExperimentFolder,
        pool: SharedPool,
        samplers: SharedSamplers,
        settings: JudgeSettings,
        environment: Mapping[str, object],
        tell: Tell,
    ) -> None:
        """`settings` are the pool's; `environment` is the record of this machine for the folders of new cells. Pool and
        samplers are closed by whoever made them."""
        self._experiment = experiment
        self._problems = problems
        self._folder = folder
        self._pool = pool
        self._samplers = samplers
        self._settings = settings
        self._environment = environment
        self._tell = tell
        self._at_work: dict[Cell, Controller] = {}
        self._stopping = False
        self._ended: Ended | None = None

    async def run(self) -> Ended:
        """Works until every cell is finished. Trouble in one stops the others, to be resumed. Raises ResumeError."""
        for seed in self._experiment.seeds:
            cells = [Cell(arm=arm, seed=seed) for arm in self._experiment.arms]
            left = [cell for cell in cells if not self._folder.finished(cell)]
            if self._stopping:
                break
            async with asyncio.TaskGroup() as group:
                for cell in left:
                    group.create_task(self._run_cell(cell))
        if self._ended is not None:
            return self._ended
        return Ended(outcome=Outcome.STOPPED if self._stopping else Outcome.COMPLETED, error=None)

    def stop(self) -> None:
        """Ends soon, to be resumed. Call it in the loop's thread."""
        self._stopping = True
        for controller in self._at_work.values():
            controller.stop()

    async def _run_cell(self, cell: Cell) -> None:
        config = self._experiment.config_of(cell)
        folder = self._folder.begin_cell(cell, config=config.to_yaml(), environment=self._environment)
        began = datetime.now(UTC)
        with Ledger.open(folder.ledger) as ledger:
            self._at_work[cell] = controller = self._controller(cell, folder=folder, ledger=ledger)
            if self._stopping:
                controller.stop()
            try:
                summary = await controller.run()
            finally:
                del self._at_work[cell]
        await asyncio.to_thread(self._conclude, cell, folder=folder, summary=summary, began=began)
        if summary.outcome in (Outcome.FAILED, Outcome.REFUSED) and self._ended is None:
            self._ended = Ended(outcome=summary.outcome, error=f"{cell}: {summary.error}")
            self.stop()

    def _controller(self, cell: Cell, *, folder: RunFolder, ledger: Ledger) -> Controller:
        config, pool = self._experiment.config_of(cell), self._pool.of(str(cell))
        return Controller(
            plan_of(config, problems=self._problems),
            sampler=self._samplers.by_arm[cell.arm],
            pool=pool,
            ledger=ledger,
            folder=folder,
            confirmer=Confirmer(
                pool=pool,
                ledger=ledger,
                folder=folder,
                most=config.confirm.most,
                settings=confirming(self._settings),
            ),
            sampling_slots=self._samplers.slots_each,
            on_event=partial(self._tell, cell),
            clock=time.monotonic,
        )

    def _conclude(self, cell: Cell, *, folder: RunFolder, summary: RunSummary, began: datetime) -> None:
        """The cell's own report; and if it is at its end, the mark that it need not be run again."""
        folder.write_report(report.report_text(read_run(folder)))
        if summary.outcome is Outcome.COMPLETED:
            ended = datetime.now(UTC)
            self._folder.finish(cell, {"began": began.isoformat(), "ended": ended.isoformat()})
