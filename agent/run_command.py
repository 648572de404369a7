"""The commands `run`, `resume` and `report`: build the parts of a run from its configuration and start them.

Knows nothing of how the parts work. What the user got wrong is found before a run folder is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from agent import report
from agent.budget_config import check_resumable
from agent.checkpoint import CheckpointError
from agent.config import ProblemsConfig, RunConfig, load_config
from agent.config_section import ConfigError
from agent.confirm import Confirmer
from agent.controller import Controller, RunPlan
from agent.events import Outcome, RunSummary, Starting
from agent.faults import FaultLog, Tell
from agent.gpu_lease import GpuLease
from agent.ledger import Ledger, ResumeError
from agent.limits import too_small
from agent.pool import Pool, PoolError, SerialPool, confirming
from agent.progress import Display, JsonDisplay, LiveDisplay, PlainDisplay
from agent.progress_file import ProgressFile
from agent.run_end import conclude, sigterm_interrupts, stop_on_signals, told_to_resume
from agent.run_folder import RunFolder, RunFolderError
from agent.run_record import read_run
from agent.sampler import Sampler, SamplerError, SamplerRefused
from agent.sampler_config import TransformersSamplerConfig, VllmSamplerConfig
from agent.sampling import check_engines, check_sampler, open_prompt_writer, open_sampler, tokens_of
from agent.tuning_points import choose_point
from agent.vllm_sampler import VllmSampler
from agent.what_is_left import nothing_left, was_completed
from sandbox import environment
from sandbox.isolation import probe
from sandbox.problems import ProblemError, scan_problems
from sandbox.settings import JudgeSettings
from sandbox.types import Problem
from strategies import STRATEGIES


def start(config_path: Path, *, overrides: list[str], as_json: bool) -> int:
    config = load_config(config_path, overrides)
    problems = check_parts(config, path=config_path)
    config = with_mode_settled(config)
    machine = record_of_machine()  # before there is a folder, which could only be resumed with its record
    try:
        folder = RunFolder.create(config.run_dir, runs=Path("runs"), now=datetime.now())
    except RunFolderError as error:
        raise ConfigError(f"{config_path}: {error}") from error
    try:
        folder.write_config(config.to_yaml())
        folder.write_environment(machine)
    except KeyboardInterrupt:
        return told_to_resume(folder, reason="interrupted")
    return carry_out(folder, config=config, problems=problems, as_json=as_json)


def resume(run: Path, *, as_json: bool, overrides: Sequence[str] = ()) -> int:
    """`overrides` are of budgets alone; the run keeps them."""
    check_resumable(overrides)
    folder = open_folder(run)
    config = load_config(folder.config, overrides)
    problems = check_parts(config, path=folder.config)
    if overrides:
        check_room(folder, config=config)
    return carry_out(folder, config=config, problems=problems, as_json=as_json, keep_config=bool(overrides))


def check_room(folder: RunFolder, *, config: RunConfig) -> None:
    """Raises ConfigError where a budget that a resume makes smaller is passed already: that was not in flight."""
    if not folder.ledger.exists():
        return
    record, budget, run_budget = read_run(folder), config.budget.limits(), config.run_budget.limits()
    spends = {f"problem {result.problem_id}": result.spend for result in record.results}
    prices = record.prices.of_a_problem
    told = too_small(record.budget, budget, section="budget", spends=spends, prices=prices) or too_small(
        record.run_budget, run_budget, section="run_budget", spends={"the run": record.spend}, prices=record.prices
    )
    if told is not None:
        raise ConfigError(f"{folder.config}: {told}")


def write_report(run: Path, *, html: bool) -> Path:
    """Where it was written: the Markdown always, and beside it the HTML that was asked for."""
    folder = open_folder(run)
    record = read_run(folder)
    folder.write_report(report.report_text(record))
    if not html:
        return folder.report
    from agent.html_report import report_html

    with Ledger.open_read_only(folder.ledger) as ledger:
        folder.write_html_report(report_html(record, ledger=ledger))
    return folder.html_report


def open_folder(run: Path) -> RunFolder:
    try:
        return RunFolder.open(run)
    except RunFolderError as error:
        raise ConfigError(str(error)) from error


def check_parts(config: RunConfig, *, path: Path) -> list[Problem]:
    """The problems. Raises the errors of whatever the configuration in `path` names and is not usable."""
    try:
        problems = find_problems(config.problems)
        check_weights(config, problems=problems)
        settings = settings_of(config)
        check_gpu_seconds(config, mode=settings.mode)
        check_engines(config, replaying=settings.mode == "replay")
        open_prompt_writer(config.sampler, engine=config.engine)
        check_sampler(config.sampler, engine=config.engine)
        check_gpu_is_left_alone(config)
    except (ConfigError, ProblemError, SamplerRefused, CheckpointError) as error:  # the others name a file of their own
        raise type(error)(f"{path}: {error}") from error
    return problems


def check_weights(config: RunConfig, *, problems: list[Problem]) -> None:
    """Raises ConfigError where a weight is for no problem of the run."""
    known = {problem.id for problem in problems}
    if unknown := sorted(set(config.allocator.weights) - known):
        raise ConfigError(f"allocator.weights: no problem {unknown[0]!r}; there are: {', '.join(sorted(known))}")


def check_gpu_seconds(config: RunConfig, *, mode: str) -> None:
    """Raises ConfigError where a limit is on what nothing takes any of: without a GPU it would never be reached."""
    for name in ("budget", "run_budget"):
        if mode == "interpret" and getattr(config, name).gpu_seconds is not None:
            told = "judging is by judge.mode: interpret here, which takes no GPU seconds"
            allowed = [currency for currency in type(getattr(config, name)).model_fields if currency != "gpu_seconds"]
            raise ConfigError(f"{name}.gpu_seconds: {told}; allowed: {', '.join(allowed)}")


def check_gpu_is_left_alone(config: RunConfig) -> None:
    """A model in this process knows no turns, so it may not have a GPU that candidates are timed on."""
    sampler = config.sampler
    if (
        isinstance(sampler, TransformersSamplerConfig)
        and sampler.device == "cuda"
        and settings_of(config).mode == "replay"
    ):
        raise ConfigError(
            "sampler.device: cuda would generate beside candidates that are timed; allowed here: cpu, auto (which is "
            "cpu here), or sampler.kind: vllm with engine.placement"
        )


def with_mode_settled(config: RunConfig) -> RunConfig:
    """`judge.mode: auto` decided once and for all, so that a resume elsewhere judges as before. Raises ConfigError.

    So is `sampler.device: auto`: the CPU where candidates are timed on the GPUs.
    """
    mode, sampler = settings_of(config).mode, config.sampler
    if isinstance(sampler, TransformersSamplerConfig) and sampler.device == "auto" and mode == "replay":
        sampler = sampler.model_copy(update={"device": "cpu"})
    judge = config.judge.model_copy(update={"mode": mode})
    return config.model_copy(update={"judge": judge, "sampler": sampler})


def carry_out(
    folder: RunFolder, *, config: RunConfig, problems: list[Problem], as_json: bool, keep_config: bool = False
) -> int:
    """Runs to the end, or to the first interrupt, and says what came of it. `keep_config` writes down what a resume
    changed, once nobody else has the run and before anything is done about it."""
    outcome, error = Outcome.COMPLETED, None
    try:
        with Ledger.open(folder.ledger) as ledger:
            check_problems(folder, problems=problems, ledger=ledger)  # before all else
            if keep_config:
                folder.write_config(config.to_yaml())
            make_sure_of_environment(folder)
            if not is_done(folder, config=config, problems=problems, ledger=ledger):
                summary = work_shown(folder, config=config, problems=problems, ledger=ledger, as_json=as_json)
                outcome, error = summary.outcome, summary.error
        return conclude(folder, outcome=outcome, error=error, as_json=as_json)
    except KeyboardInterrupt:
        return told_to_resume(folder, reason="interrupted")
    except (PoolError, SamplerError) as error:  # what the run needs did not start; later, the controller takes it
        return told_to_resume(folder, reason=str(error))


def check_problems(folder: RunFolder, *, problems: list[Problem], ledger: Ledger) -> None:
    """Raises ResumeError where the run was begun with others."""
    try:
        ledger.record_problems({problem.id: problem.key for problem in problems})
    except ResumeError as error:
        raise ResumeError(f"{folder.config}: problems.path: {error}") from error


def make_sure_of_environment(folder: RunFolder) -> None:
    """What a run needs at its end is there before it begins, though the one that began it was killed in its first
    moments. Raises RunFolderError."""
    if folder.environment.exists():
        folder.read_environment()
    else:
        folder.write_environment(record_of_machine())


def record_of_machine() -> Mapping[str, object]:
    """Takes some seconds, which a terminal is told."""
    with Console(stderr=True).status("looking at this machine ..."):
        return environment.record(isolation=probe())


def is_done(folder: RunFolder, *, config: RunConfig, problems: list[Problem], ledger: Ledger) -> bool:
    """Whether there is nothing to resume. Raises ResumeError."""
    if not was_completed(folder):
        return False
    plan = plan_of(config, problems=problems)
    return nothing_left(plan, ledger=ledger, folder=folder, most_confirmed=config.confirm.most)


def work_shown(
    folder: RunFolder, *, config: RunConfig, problems: list[Problem], ledger: Ledger, as_json: bool
) -> RunSummary:
    """The whole run on the display. Raises KeyboardInterrupt, PoolError and SamplerError while it starts."""
    shown = ProgressFile(folder, display=open_display(as_json=as_json), clock=time.monotonic)
    with sigterm_interrupts() as take_sigterm, shown as display:
        display.show(Starting(run_dir=str(folder.root), what=pool_text(config)))
        tell = FaultLog(folder.faults, clock=time.time).tell
        try:
            pool = open_pool(config, tell=tell)  # outside of the event loop, which would hold an interrupt back
        except SystemExit as ended:  # how Ray answers SIGTERM while it starts
            raise KeyboardInterrupt from ended
        take_sigterm()
        return asyncio.run(work(folder, config=config, problems=problems, ledger=ledger, pool=pool, display=display))


async def work(
    folder: RunFolder,
    *,
    config: RunConfig,
    problems: list[Problem],
    ledger: Ledger,
    pool: Pool,
    display: Display,
    open_sampler: Callable[[RunConfig], Sampler] = open_sampler,
    on_ready: Callable[[Controller], None] | None = None,
) -> RunSummary:
    """The whole run; closes the pool, whatever happens. `on_ready` gets what can stop it; by default interrupts do."""
    async with contextlib.AsyncExitStack() as closing:
        closing.push_async_callback(pool.close)
        plan = plan_of(config, problems=problems)
        sampler: Sampler
        sampling_slots = config.sampler.concurrency
        if isinstance(config.sampler, VllmSamplerConfig):
            sampler = open_vllm_sampler(config, sampler=config.sampler, pool=pool)
            closing.push_async_callback(sampler.close)
            sampling_slots = sampler.num_slots
            what = f"vLLM with {config.sampler.model}, some minutes"
            display.show(Starting(run_dir=str(folder.root), what=what))
            await sampler.wait_until_up()
        else:
            sampler = open_sampler(config)
            closing.push_async_callback(sampler.close)
        controller = Controller(
            plan,
            sampler=sampler,
            pool=pool,
            ledger=ledger,
            folder=folder,
            confirmer=Confirmer(
                pool=pool,
                ledger=ledger,
                folder=folder,
                most=config.confirm.most,
                settings=confirming(settings_of(config)),
            ),
            sampling_slots=sampling_slots,
            on_event=display.show,
            clock=time.monotonic,
        )
        (on_ready or stop_on_signals)(controller)
        return await controller.run()


def plan_of(config: RunConfig, *, problems: list[Problem]) -> RunPlan:
    strategy, options = STRATEGIES[config.strategy.name], config.strategy_options()
    return RunPlan(
        problems=problems,
        new_strategy=lambda seed: strategy(seed=seed, **options),
        render=open_prompt_writer(config.sampler, engine=config.engine, capability=config.judge.capability).render,
        choose_point=choose_point,
        budget=config.budget.limits(),
        run_budget=config.run_budget.limits(),
        prices=config.prices.prices(),
        allocator=config.allocator.allocator(),
        seed=config.seed,
    )


def find_problems(config: ProblemsConfig) -> list[Problem]:
    """The problems chosen; files at fault are told on standard error and left out. Raises ProblemError, ConfigError."""
    problems, faults = scan_problems(config.path, levels=config.levels)
    for fault in faults:
        print(f"kernelloop: left out: {fault}", file=sys.stderr)
    if not problems:
        raise ConfigError(f"problems.path: {config.path}: none of its {len(faults)} files is a problem")
    if config.only is None:
        return problems
    known = {problem.id: problem for problem in problems}
    if unknown := [id for id in config.only if id not in known]:
        raise ConfigError(f"problems.only: no problem {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[id] for id in dict.fromkeys(config.only)]


def settings_of(config: RunConfig) -> JudgeSettings:
    """Raises ConfigError. Whether a cluster has the GPUs that replay needs is known only once it is joined."""
    on_cluster = config.ray.pool == "ray" and config.ray.address is not None and config.judge.mode == "replay"
    return config.judge.settings(config.seed, gpu_available=on_cluster or environment.gpu_usable())


def open_vllm_sampler(config: RunConfig, *, sampler: VllmSamplerConfig, pool: Pool) -> VllmSampler:
    """Its engines are not started yet. Raises PoolError."""
    from agent.ray_engines import open_over_engines

    replaying = settings_of(config).mode == "replay"
    return open_over_engines(config, sampler=sampler, replaying=replaying, encode=tokens_of(sampler).encode, pool=pool)


def open_pool(config: RunConfig, *, tell: Tell | None = None) -> Pool:
    """`tell` hears of what fails on GPUs. Raises PoolError."""
    if config.ray.pool == "serial":
        return SerialPool(settings_of(config))
    from agent.ray_pool import RayPool

    settings = settings_of(config)
    if not isinstance(config.sampler, VllmSamplerConfig):
        return RayPool(settings, config.ray, tell=tell)
    engine, lease = config.engine, None
    if engine.placement == "shared" and settings.mode == "replay":
        lease = GpuLease(
            batch=engine.time_together,
            patience_seconds=engine.patience_seconds,
            freezes=engine.while_timing == "frozen",
        )
    return RayPool(settings, config.ray, engines=engine, lease=lease, tell=tell)


def pool_text(config: RunConfig) -> str:
    """What is started when the pool is opened, and how long that takes."""
    return f"{'Ray and the sandbox' if config.ray.pool == 'ray' else 'the sandbox'}, some seconds"


def open_display(*, as_json: bool) -> Display:
    if as_json:
        return JsonDisplay(stream=sys.stdout)
    if sys.stdout.isatty():
        return LiveDisplay(console=Console(), clock=time.monotonic)
    return PlainDisplay(stream=sys.stdout, clock=time.monotonic)
