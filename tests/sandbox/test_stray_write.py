"""A kernel that writes to what the judge keeps, beyond every guard band: it is blamed, and nothing of it is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from sandbox import replay_worker, warm_up
from sandbox.next_call import NextCall
from sandbox.plan import encode
from sandbox.reference import Case
from sandbox.replay import Check, verify
from sandbox.runner import Runner
from sandbox.types import Status

pytestmark = pytest.mark.gpu
OPEN = {"do": "open", "problem": dataclasses.asdict(warm_up.PROBLEM), **warm_up.REQUEST, "calibration": None}


def opened(worker: replay_worker.ReplayWorker) -> dict[str, Any]:
    return worker.answer(OPEN, [memoryview(encode(warm_up.plan()))])


def test_it_is_the_candidates_fault_and_the_process_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = replay_worker.ReplayWorker(on_late=lambda: None)
    request = {"do": "verify", "key": opened(worker)["key"], "run_seconds": 10.0}
    plan = memoryview(encode(warm_up.plan()))
    assert worker.answer(request, [plan])["status"] is None

    def astray(runner: Runner, cases: Sequence[Case], *, next_call: NextCall) -> Check:
        check = verify(runner, cases, next_call=next_call)
        cases[-1].inputs[0].view(-1)[7] += 1.0
        return check

    monkeypatch.setattr("sandbox.replay_worker.verify", astray)
    found = worker.answer(request, [plan])
    assert found["status"] is Status.ILLEGAL_ACCESS and found["dead"]


def test_a_problem_that_another_ones_kernel_wrote_to_is_made_anew() -> None:
    worker = replay_worker.ReplayWorker(on_late=lambda: None)
    key = opened(worker)["key"]
    kept = worker._problems[key]
    assert opened(worker)["key"] == key and worker._problems[key] is kept
    kept.cases[0].weights[warm_up.WEIGHTS[0]].view(-1)[0] += 1.0
    assert opened(worker)["key"] == key and worker._problems[key] is not kept
