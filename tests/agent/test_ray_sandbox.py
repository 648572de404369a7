"""The Ray pool over the real sandbox, whose processes are killed in mid-job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import JudgeConfig, RayConfig
from sandbox.types import Candidate, Operator, Problem, Spend, Status, Verdict

pytest.importorskip("ray")

from agent.ray_pool import RayPool

pytestmark = pytest.mark.timeout(900)  # most of a minute on two idle cores

PROBLEM = Problem(
    id="relu",
    origin="test",
    source="""
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.rand(40, 50)]
def get_init_inputs():
    return []
""",
)
# A second to trace, and one program an element, which the interpreter takes seconds for: time to be killed in.
SLOW_ANSWER = """
import time
import torch
import triton
import triton.language as tl

@triton.jit
def relu_kernel(x_ptr, y_ptr):
    offset = tl.program_id(0)
    tl.store(y_ptr + offset, tl.maximum(tl.load(x_ptr + offset), 0.0))

class ModelNew(torch.nn.Module):
    def forward(self, x):
        time.sleep(1.0)
        y = torch.empty_like(x)
        relu_kernel[(x.numel(),)](x, y)
        return y
"""
DEADLINE_SECONDS = 400.0  # two of them are within the limit above


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process, by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = (parent, (folder / "cmdline").read_text())
    return found


def ancestors(pid: int, *, among: dict[int, tuple[int, str]]) -> Iterator[int]:
    while pid in among:
        pid = among[pid][0]
        yield pid


def busy_sandbox(entry: str) -> int | None:
    """The warm process of this test's workers that has a child at work on `entry`."""
    known = processes()
    parents = {parent for parent, _ in known.values()}
    for pid, (parent, command) in known.items():
        warm = "sandbox.zygote_main" in command and f'"{entry}"' in command and command != known.get(parent, (0, ""))[1]
        if warm and pid in parents and os.getpid() in ancestors(pid, among=known):
            return pid
    return None


def warm_processes() -> set[int]:
    """Those of sandboxes below this process; other tests keep some."""
    known = processes()
    warm = (pid for pid, (_, command) in known.items() if "sandbox.zygote_main" in command)
    return {pid for pid in warm if os.getpid() in ancestors(pid, among=known)}


async def kill_in_mid_job(entry: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (pid := busy_sandbox(entry)) is None:
        assert time.monotonic() < deadline, f"no {entry} was seen at work"
        await asyncio.sleep(0.02)
    os.kill(pid, signal.SIGKILL)


async def judged_despite_kills(candidate: Candidate) -> Verdict:
    settings = JudgeConfig(mode="interpret").settings(1, False)
    pool = RayPool(settings, RayConfig(trace_workers=1, judges=1))
    try:
        first = Candidate(problem_id="relu", source="class ModelNew: ...", operator=Operator.DRAFT)
        await pool.judge(PROBLEM, first)  # warms the sandbox, and has the problem described
        verdict = asyncio.create_task(pool.judge(PROBLEM, candidate))
        for entry in ("trace", "interpret"):
            await kill_in_mid_job(entry)
        return await verdict
    finally:
        await pool.close()


def test_sandboxes_killed_in_mid_job_cost_the_candidate_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="agent.ray_pool")
    before = warm_processes()
    candidate = Candidate(problem_id="relu", source=SLOW_ANSWER, operator=Operator.DRAFT)
    verdict = asyncio.run(judged_despite_kills(candidate))
    assert (verdict.candidate_id, verdict.status) == (candidate.id, Status.PASSED)
    assert verdict.spend == Spend(judged=1)
    failed = [line.getMessage() for line in caplog.records if line.getMessage().startswith("sandbox_failed")]
    assert ["trace worker" in failed[0], "judge" in failed[1], len(failed)] == [True, True, 2]
    assert warm_processes() <= before
