"""One search for a verified kernel with a model that is loaded already: what `kernelllm.py` runs.

Builds a run as the command line does, in a folder of its own, and knows nothing of how a run works.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agent import report, run_command
from agent.config import RunConfig, config_of
from agent.controller import Controller
from agent.events import EndReason, Outcome, RunSummary
from agent.faults import FaultLog
from agent.ledger import Ledger
from agent.pool import Confirmation, Pool
from agent.progress import PlainDisplay
from agent.run_folder import RunFolder
from agent.run_record import read_run
from agent.sampler import Completion, Sampler, SampleRequest, SamplerError
from agent.search import standings
from agent.wording import statuses_text
from sandbox import environment
from sandbox.isolation import probe
from sandbox.types import Candidate, Observation, Problem, Verdict

PROBLEM_FILE = "problem.py"


class NoKernelPassed(RuntimeError):
    """The search ended, and there is no kernel to give: none passed, or the module itself cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is searched for: `code` is in KernelBench form, `sampler` a section of a run's configuration."""

    code: str
    sampler: dict[str, Any]
    num_samples: int
    seed: int


def find_kernel(
    task: Task, *, open_sampler: Callable[[RunConfig], Sampler], run_dir: Path | None, on_gpu: bool
) -> Observation:
    """The best candidate, passed and confirmed, of at most `num_samples`; the model is asked for repairs among them.

    `run_dir`, which must be empty or absent, keeps the run, and `kernelloop resume` goes on with it; None keeps
    nothing. With `on_gpu` the model has a GPU that candidates may be timed on, so the two take turns. Progress goes to
    standard error. Raises NoKernelPassed, SamplerError where the run failed, KeyboardInterrupt where it was
    interrupted, and the errors of a run's parts.
    """
    with contextlib.ExitStack() as kept:
        root = run_dir or Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="kernelloop-"))) / "run"
        folder = RunFolder.create(root, runs=root, now=datetime.now())
        problem_path = folder.root / PROBLEM_FILE
        problem_path.write_text(task.code, encoding="utf-8")
        config = config_for(task, problem_path=problem_path)
        (problem,) = run_command.check_parts(config, path=problem_path)
        config = run_command.with_mode_settled(config)
        folder.write_config(config.to_yaml())
        folder.write_environment(environment.record(isolation=probe()))
        summary = carry_out(folder, config=config, problem=problem, open_sampler=open_sampler, on_gpu=on_gpu)
        record = read_run(folder)
        folder.write_report(report.report_text(record))
        return result_of(folder, summary=summary, where=f"; see {folder.root}" if run_dir else "")


def config_for(task: Task, *, problem_path: Path) -> RunConfig:
    raw = {
        "problems": str(problem_path),
        "sampler": task.sampler,
        "budget": {"samples": task.num_samples},
        "ray": {"pool": "serial"},
        "seed": task.seed,
    }
    return config_of(raw, path=problem_path)


def carry_out(
    folder: RunFolder,
    *,
    config: RunConfig,
    problem: Problem,
    open_sampler: Callable[[RunConfig], Sampler],
    on_gpu: bool,
) -> RunSummary:
    """Runs in a thread with a loop of its own: the caller may have one already, as notebooks do."""
    pool = run_command.open_pool(config, tell=FaultLog(folder.faults, clock=time.time).tell)
    turns = Turns() if on_gpu and config.judge.mode == "replay" else None
    stopping = Stopping()

    async def whole() -> RunSummary:
        stopping.loop = asyncio.get_running_loop()
        with Ledger.open(folder.ledger) as ledger, PlainDisplay(stream=sys.stderr, clock=time.monotonic) as display:
            return await run_command.work(
                folder,
                config=config,
                problems=[problem],
                ledger=ledger,
                pool=pool if turns is None else PoolByTurns(pool, turns=turns),
                display=display,
                open_sampler=lambda config: by_turns(open_sampler(config), turns=turns),
                on_ready=stopping.hold,
            )

    return wait_for(lambda: asyncio.run(whole()), on_interrupt=stopping.stop)


class Stopping:
    """Hands an interrupt of one thread to the controller in another."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._controller: Controller | None = None
        self._asked = False

    def hold(self, controller: Controller) -> None:
        self._controller = controller
        if self._asked:
            controller.stop()

    def stop(self) -> None:
        self._asked = True
        if self.loop is not None and self._controller is not None:
            self.loop.call_soon_threadsafe(self._controller.stop)


def wait_for(work: Callable[[], RunSummary], *, on_interrupt: Callable[[], None]) -> RunSummary:
    """What `work` gives, done in another thread. The first interrupt is handed on, the next one is not caught."""
    done: Future[RunSummary] = Future()

    def carry() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  (handed to the thread that waits)
            done.set_exception(error)

    threading.Thread(target=carry, name="kernelloop search", daemon=True).start()
    try:
        return done.result()
    except KeyboardInterrupt:
        on_interrupt()
        return done.result()


def result_of(folder: RunFolder, *, summary: RunSummary, where: str) -> Observation:
    match summary.outcome:
        case Outcome.STOPPED:
            raise KeyboardInterrupt
        case Outcome.FAILED | Outcome.REFUSED:
            raise SamplerError(f"the search failed: {summary.error}{where}")
        case Outcome.COMPLETED:
            pass
    (search,) = summary.searches
    if search.end is EndReason.INADMISSIBLE:
        raise NoKernelPassed(f"the module itself cannot be judged: {search.end_detail}{where}")
    with Ledger.open_read_only(folder.ledger) as ledger:
        standing = standings(ledger.events())[search.problem_id]
        if standing.winner is not None:
            return ledger.observation(standing.winner.candidate_id)
    empty = f"{standing.num_without_code} without code; " if standing.num_without_code else ""
    counts = f"{empty}{statuses_text(search.num_by_status)}"
    confirmed = "; what passed did not hold when it was judged once more" if search.best is not None else ""
    raise NoKernelPassed(f"no kernel passed in {search.spend.samples} samples ({counts}){confirmed}{where}")


class Turns:
    """On one GPU the model answers or a candidate is judged, never both: a time taken beside a model is no time."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._num_sampling = self._num_judging = self._num_to_judge = 0

    @contextlib.asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Not while anything is judged, or waits to be."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._num_judging == self._num_to_judge == 0)
            self._num_sampling += 1
        try:
            yield
        finally:
            async with self._changed:
                self._num_sampling -= 1
                self._changed.notify_all()

    @contextlib.asynccontextmanager
    async def judging(self) -> AsyncIterator[None]:
        async with self._changed:
            with self._counted_to_judge():
                await self._changed.wait_for(lambda: self._num_sampling == 0)
            self._num_judging += 1
        try:
            yield
        finally:
            async with self._changed:
                self._num_judging -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def _counted_to_judge(self) -> Iterator[None]:
        self._num_to_judge += 1
        try:
            yield
        finally:
            self._num_to_judge -= 1


class SamplerByTurns:
    """A sampler that keeps to the turns."""

    def __init__(self, sampler: Sampler, *, turns: Turns) -> None:
        self._sampler, self._turns = sampler, turns

    async def sample(self, request: SampleRequest) -> Completion:
        async with self._turns.sampling():
            return await self._sampler.sample(request)

    async def close(self) -> None:
        await self._sampler.close()


def by_turns(sampler: Sampler, *, turns: Turns | None) -> Sampler:
    return sampler if turns is None else SamplerByTurns(sampler, turns=turns)


class PoolByTurns:
    """A pool that keeps to the turns."""

    def __init__(self, pool: Pool, *, turns: Turns) -> None:
        self._pool, self._turns = pool, turns

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    async def judge(self, problem: Problem, candidate: Candidate) -> Verdict:
        async with self._turns.judging():
            return await self._pool.judge(problem, candidate)

    async def confirm(self, problem: Problem, candidate: Candidate) -> Confirmation:
        async with self._turns.judging():
            return await self._pool.confirm(problem, candidate)

    async def close(self) -> None:
        await self._pool.close()
