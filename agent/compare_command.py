"""The command `compare`: carries an experiment out, or the rest of one, and writes what its arms came to.

Knows nothing of how cells run or of statistics. What the user got wrong is found before a folder is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from agent import run_command
from agent.checkpoint import CheckpointError
from agent.compare_pages import write_pages
from agent.config import RunConfig
from agent.config_section import ConfigError
from agent.events import Outcome
from agent.experiment import Ended, ExperimentRun, Tell
from agent.experiment_config import Experiment, load_experiment
from agent.experiment_folder import ExperimentFolder
from agent.experiment_progress import ExperimentDisplay, ExperimentTally, LiveTable, PlainLines, on_event
from agent.experiment_results import Results, read_results
from agent.faults import FaultLog
from agent.ledger import Ledger
from agent.pool import Pool, PoolError
from agent.run_end import stop_on_signals
from agent.sampler import Sampler, SamplerError, SamplerRefused
from agent.sampler_config import VllmSamplerConfig
from agent.sampling import check_engines, check_sampler, open_prompt_writer, open_sampler
from agent.search import standings
from agent.shared_pool import SharedPool
from agent.shared_sampler import engine_key, open_shared
from agent.verdict_cache import VerdictCache
from agent.vllm_sampler import VllmSampler
from sandbox import environment, strict_json
from sandbox.isolation import probe
from sandbox.types import Problem

OpenPool = Callable[[RunConfig], Pool]
OpenEngine = Callable[[RunConfig], Sampler]


def compare(path: Path, *, overrides: list[str], resume: bool, as_json: bool) -> int:
    experiment = with_modes_settled(load_experiment(path, overrides))
    problems = check_parts(experiment)
    folder = ExperimentFolder.begin_or_resume(experiment, resume=resume, runs=Path("runs"), now=datetime.now())
    print(f"experiment folder: {folder.root}", file=sys.stderr if as_json else sys.stdout)
    ended = carry_out(experiment, problems=problems, folder=folder, as_json=as_json)
    with Console(stderr=True).status("comparing the arms ..."):  # on a terminal only
        results = read_results(experiment, folder=folder, problems=problems)
        if results is not None:
            write_pages(results, folder=folder)
    return conclude(ended, results=results, folder=folder, experiment=experiment, as_json=as_json)


def with_modes_settled(experiment: Experiment) -> Experiment:
    """`auto` decided once and for all. Raises ConfigError."""
    settled = run_command.with_mode_settled
    arms = {arm: settled(config) for arm, config in experiment.arms.items()}
    return replace(experiment, base=settled(experiment.base), arms=arms)


def check_parts(experiment: Experiment) -> list[Problem]:
    """The problems, which all arms have in common. Raises the errors of whatever is named and not usable."""
    problems = run_command.check_parts(experiment.base, path=experiment.path)
    for arm, config in experiment.arms.items():
        try:
            check_engines(config, replaying=config.judge.mode == "replay")
            open_prompt_writer(config.sampler, engine=config.engine)
            check_sampler(config.sampler, engine=config.engine)
            run_command.check_gpu_is_left_alone(config)
        except (ConfigError, SamplerRefused, CheckpointError) as error:
            raise type(error)(f"{experiment.path}: arms.{arm}: {error}") from error
    engines = {engine_key(c.sampler) for c in experiment.arms.values() if isinstance(c.sampler, VllmSamplerConfig)}
    if len(engines) > 1:
        raise ConfigError(
            f"{experiment.path}: arms: {len(engines)} different models of sampler.kind: vllm would share the GPUs; "
            "allowed: one, and kind: http to servers of their own for the others"
        )
    return problems


def carry_out(
    experiment: Experiment,
    *,
    problems: list[Problem],
    folder: ExperimentFolder,
    as_json: bool,
    open_pool: OpenPool | None = None,
    open_engine: OpenEngine | None = None,
    on_ready: Callable[[ExperimentRun], None] | None = None,
) -> Ended:
    """Whatever is left to be run, to the end or to the first interrupt."""
    tally = ExperimentTally(list(experiment.arms), num_seeds=len(experiment.seeds), num_problems=len(problems))
    num_left = 0
    for cell in experiment.cells:
        if folder.finished(cell):
            with Ledger.open_read_only(folder.cell(cell).ledger) as ledger:
                found = standings(ledger.events()).values()
                tally.finish(cell, [standing.summary(ended=standing.ended) for standing in found])
        else:
            num_left += 1
    if num_left == 0:
        return Ended(outcome=Outcome.COMPLETED, error=None)
    pooled = _pooled(experiment)
    told = sys.stderr if as_json else sys.stdout
    print(f"starting {run_command.pool_text(pooled)} ...", file=told, flush=True)
    with contextlib.closing(VerdictCache.open(folder.verdicts, settings=run_command.settings_of(pooled))) as cache:
        try:
            pool = (open_pool or _open_pool(folder))(pooled)  # outside of the event loop, which would hold an interrupt
            with open_display(tally, as_json=as_json) as display:
                working = work(
                    experiment, problems=problems, folder=folder, pool=pool, cache=cache,
                    tell=on_event(tally, display), open_engine=open_engine, on_ready=on_ready,
                )  # fmt: skip
                ended = asyncio.run(working)
                display.show(last=True)
                return ended
        except KeyboardInterrupt:
            return Ended(outcome=Outcome.STOPPED, error=None)
        except (PoolError, SamplerError) as error:  # what the cells need did not start
            return Ended(outcome=Outcome.FAILED, error=" ".join(str(error).split()))


async def work(
    experiment: Experiment,
    *,
    problems: list[Problem],
    folder: ExperimentFolder,
    pool: Pool,
    cache: VerdictCache,
    tell: Tell,
    open_engine: OpenEngine | None,
    on_ready: Callable[[ExperimentRun], None] | None,
) -> Ended:
    """Closes the pool, whatever happens. `on_ready` gets what can stop it; by default interrupts do."""
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(pool.close)
        shared = SharedPool(pool, cache=cache)
        closing.push_async_callback(shared.close)
        samplers = open_shared(experiment.arms, open_engine=open_engine or _open_engine(pool))
        closing.push_async_callback(samplers.close)
        for engine in samplers.engines:
            if isinstance(engine, VllmSampler):
                print("starting vLLM, some minutes ...", file=sys.stderr)
                await engine.wait_until_up()
        run = ExperimentRun(
            experiment, problems=problems, folder=folder, pool=shared, samplers=samplers,
            settings=run_command.settings_of(_pooled(experiment)),
            environment=environment.record(isolation=probe()), tell=tell,
        )  # fmt: skip
        (on_ready or stop_on_signals)(run)
        return await run.run()


def open_display(tally: ExperimentTally, *, as_json: bool) -> ExperimentDisplay:
    if sys.stdout.isatty() and not as_json:
        return LiveTable(tally, console=Console())
    return PlainLines(tally, stream=sys.stderr if as_json else sys.stdout, clock=time.monotonic)


def conclude(
    ended: Ended, *, results: Results | None, folder: ExperimentFolder, experiment: Experiment, as_json: bool
) -> int:
    """Says what came of it, and gives the exit code."""
    if as_json and results is not None:
        for row in results.rows():
            print(strict_json.dumps(row))
        summary = {"event": "summary", "outcome": ended.outcome, "error": ended.error}
        print(strict_json.dumps(summary | results.counts()))
    elif results is not None:
        print(f"{results.told()}\ncomparison: {folder.page} and {folder.html_page.name}")
    elif ended.outcome is Outcome.COMPLETED:
        print("kernelloop: nothing to compare: no problem can be judged; see the cells' reports", file=sys.stderr)
    if ended.outcome is Outcome.COMPLETED:
        return 0
    reason = "interrupted" if ended.outcome is Outcome.STOPPED else ended.error
    print(f"kernelloop: {reason}; to go on: {experiment.resuming}", file=sys.stderr)
    return 2 if ended.outcome is Outcome.REFUSED else 1


def _pooled(experiment: Experiment) -> RunConfig:
    """The configuration that the pool is opened for: that of an arm with vLLM engines, which need their GPUs."""
    with_engines = (c for c in experiment.arms.values() if isinstance(c.sampler, VllmSamplerConfig))
    return next(with_engines, experiment.base)


def _open_pool(folder: ExperimentFolder) -> OpenPool:
    tell = FaultLog(folder.faults, clock=time.time).tell
    return lambda config: run_command.open_pool(config, tell=tell)


def _open_engine(pool: Pool) -> OpenEngine:
    def opened(config: RunConfig) -> Sampler:
        if isinstance(config.sampler, VllmSamplerConfig):
            return run_command.open_vllm_sampler(config, sampler=config.sampler, pool=pool)
        return open_sampler(config)

    return opened
