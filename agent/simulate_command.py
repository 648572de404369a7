"""The command `simulate`: strategies against synthetic problems, as a table of arms by budgets.

Knows nothing of how they are played or fitted. What is printed says that nothing of it was measured.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from agent.config_section import ConfigError
from agent.fitted_world import FitReport, NothingToFit, fit_world
from agent.ledger import Ledger
from agent.resampling import Interval
from agent.run_command import open_folder
from agent.simulation import CONFIDENCE, Cell, SimulationConfig, load_simulation, order, simulate
from agent.unspent import TOLD
from sandbox import strict_json

HEADER = "| arm | {currency} | solved | to {against} | speedup over all | times {against}'s | depth |"


def run(path: Path, *, overrides: list[str], fit: Path | None, as_json: bool) -> int:
    """Plays every arm of the configuration and prints a line for each of its budgets. Raises ConfigError."""
    config = load_simulation(path, overrides)
    if fit is not None:
        config = with_fitted_world(config, run=fit)
    if not as_json:
        print(f"Simulated, not measured: {config.problems} synthetic problems, seed {config.seed}. Brackets hold")
        print(f"{CONFIDENCE:.0%} bootstrap intervals over problems; * where one excludes no difference.\n")
        print(HEADER.format(currency=config.currency, against=config.against))
        print("|---|---|---|---|---|---|---|")
    started_at = time.monotonic()
    num_results = 0
    results, waiting = simulate(config), Console(stderr=True)
    for number, arm in enumerate(order(config), start=1):
        with waiting.status(f"playing {escape(arm)}, {number} of {len(config.arms)} arms"):  # on a terminal only
            found = next(results)
        num_results += found[0].num_results
        for cell in found:
            print(strict_json.dumps(cell.to_json()) if as_json else line_of(cell), flush=True)
        if found[0].num_unspent:
            of = f"{found[0].num_unspent} of {config.problems} searches ended"
            print(f"kernelloop: {arm}: {of} with {TOLD} ({config.currency})", file=sys.stderr)
    print(f"{num_results} results in {time.monotonic() - started_at:.1f} s", file=sys.stderr)
    return 0


def with_fitted_world(config: SimulationConfig, *, run: Path) -> SimulationConfig:
    """What the run has on record in place of what is stated; told on standard error. Raises ConfigError."""
    with Ledger.open_read_only(open_folder(run).ledger) as ledger:
        try:
            report: FitReport = fit_world((entry.event for entry in ledger.events()), stated=config.world)
        except NothingToFit as error:
            raise ConfigError(f"--fit {run}: {error}") from error
    for line in report.lines:
        print(f"kernelloop: {line}", file=sys.stderr)
    return config.model_copy(update={"world": report.world})


def line_of(cell: Cell) -> str:
    """A row of the table."""
    parts = [
        cell.arm,
        f"{cell.budget:g}",
        str(cell.solved),
        _difference(cell.solved_difference),
        str(cell.log_speedup.mapped(np.exp)),
        _difference(cell.log_speedup_difference, as_ratio=True),
        f"{cell.mean_depth:.2f}",
    ]
    return f"| {' | '.join(parts)} |"


def _difference(interval: Interval | None, *, as_ratio: bool = False) -> str:
    if interval is None:
        return ""
    shown = interval.mapped(np.exp) if as_ratio else interval
    return f"{shown}{' *' if interval.excludes_zero else ''}"
