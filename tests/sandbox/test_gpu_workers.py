"""The worker of a GPU and its spares: losing one is cheap, timing waits for quiet, a failing GPU is given up.

The scripted workers have no GPU. Each takes the next number and does what the script says for that number.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.gpu_judge import GpuJudge, run_seconds
from sandbox.gpu_workers import GpuUnusable, GpuWorkers
from sandbox.plan import decode
from sandbox.settings import JudgeSettings
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem, Status, Verdict
from sandbox.worker_process import WorkerLate

ROOT = Path(__file__).parents[2]
# Asked to `work`, it tells its number; what else it does is in the script, by number or for "all".
TWIN = f"""
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from sandbox.worker_process import read_message, write_message
folder, script = Path(sys.argv[1]), json.loads(sys.argv[2])
number = 0
while True:
    try:
        (folder / str(number)).mkdir()
        break
    except FileExistsError:
        number += 1
(folder / str(number) / "pid").write_text(str(os.getpid()))
mine = {{**script.get("all", {{}}), **script.get(str(number), {{}})}}
answers = {{"load": {{}}, "work": {{"number": number}}, "fault": {{"dead": True}},
           "probe": {{"healthy": True, "conditions": {{"gpu_uuid": "GPU-5f"}}}}}}
out = os.fdopen(os.dup(1), "wb")
while (message := read_message(sys.stdin.buffer)):
    do = message[0]["do"]
    action = mine.get(do, do)
    if isinstance(action, (int, float)):
        time.sleep(action)
    while action == "wait" and not (folder / "go").exists():
        time.sleep(0.01)
    if action in ("die", "hang"):
        os._exit(3) if action == "die" else time.sleep(60)
    answer = {{"healthy": False, "conditions": {{}}}} if action == "sick" else answers[do]
    write_message(out, {{"json": json.dumps(answer)}})
    out.flush()
    (folder / str(number) / do).touch()  # whoever sees it finds the answer sent
"""
Make = Callable[..., GpuWorkers]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Workers that follow a script: what the numbered process does when it is asked something."""
    made: list[GpuWorkers] = []

    def workers(script: dict[str, object]) -> GpuWorkers:
        made.append(GpuWorkers([sys.executable, "-c", TWIN, str(tmp_path), json.dumps(script)], device=0))
        return made[-1]

    yield workers
    for each in made:
        each.close()


def work(workers: GpuWorkers) -> int:
    """The number of the process that did it."""
    return int(workers.exchange({"do": "work"}, [], seconds=30.0)["number"])


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(folder: Path, number: int) -> bool:
    try:
        os.kill(int((folder / str(number) / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def spare_is_open(workers: GpuWorkers, folder: Path, *, num_spares: int = 1) -> Callable[[], bool]:
    """Goes on working until so many processes more than the worker have opened the GPU."""

    def opened() -> bool:
        work(workers)
        return len(list(folder.glob("*/probe"))) > num_spares

    return opened


def test_a_lost_worker_is_replaced_without_waiting_for_a_start(make: Make, tmp_path: Path) -> None:
    workers = make({})
    first = work(workers)
    until(spare_is_open(workers, tmp_path, num_spares=2))  # all that may be open, or it is not known which is taken
    assert workers.exchange({"do": "fault"}, [], seconds=30.0)["dead"]
    opened = {path.parent.name for path in tmp_path.glob("*/probe")} - {str(first)}
    assert str(work(workers)) in opened, "it was started after the loss"
    assert workers.usage.num_lost == 1


def test_a_lost_worker_is_replaced_by_the_spare_that_is_ready_first(make: Make, tmp_path: Path) -> None:
    workers = make({"1": {"probe": 60.0}})
    work(workers)
    until(spare_is_open(workers, tmp_path))
    assert workers.exchange({"do": "fault"}, [], seconds=30.0)["dead"]
    start = time.monotonic()
    assert work(workers) != 1
    assert time.monotonic() - start < 30.0, "it waited for the slow one"


def test_a_worker_that_hangs_is_evicted_at_its_deadline_and_gone_before_timing(make: Make, tmp_path: Path) -> None:
    workers = make({"0": {"fault": "hang"}})
    assert work(workers) == 0  # spares start after it
    start = time.monotonic()
    with pytest.raises(WorkerLate):
        workers.exchange({"do": "fault"}, [], seconds=0.3)
    assert time.monotonic() - start < 30.0  # it hangs for a minute
    assert work(workers) != 0
    with workers.quiet():
        assert gone(tmp_path, 0)


def test_a_spare_on_its_way_to_the_gpu_stands_still_while_there_is_timing(make: Make, tmp_path: Path) -> None:
    workers = make({"all": {"probe": "wait"}, "0": {"probe": 0}})
    work(workers)
    until(lambda: len(list(tmp_path.glob("*/load"))) == 5)
    work(workers)  # notices, and has the first two spares open the GPU
    with workers.quiet():
        (tmp_path / "go").touch()
        for _ in range(5):
            time.sleep(0.1)
            assert work(workers) == 0
        assert len(list(tmp_path.glob("*/probe"))) == 1
    until(lambda: len(list(tmp_path.glob("*/probe"))) == 3)


def test_a_worker_lost_while_its_spare_stands_still_is_replaced_by_it(make: Make, tmp_path: Path) -> None:
    workers = make({"all": {"probe": 0.2}, "0": {"probe": 0}})
    work(workers)
    until(lambda: len(list(tmp_path.glob("*/load"))) == 5)
    work(workers)
    with workers.quiet():
        assert workers.exchange({"do": "fault"}, [], seconds=30.0)["dead"]
    assert work(workers) in (1, 2, 3, 4)


def test_timing_does_not_wait_for_a_spare_that_imports(make: Make, tmp_path: Path) -> None:
    workers = make({"0": {"load": 0}, "all": {"load": 60}})
    work(workers)
    with workers.quiet():
        assert len(list(tmp_path.glob("*/load"))) == 1


def test_a_gpu_that_keeps_failing_is_given_up_by_name(make: Make, tmp_path: Path) -> None:
    workers = make({"all": {"probe": "sick"}})
    with pytest.raises(GpuUnusable, match="GPU 0 is given up after 3 faults in a row: the GPU does not compute"):
        work(workers)
    assert len(list(tmp_path.iterdir())) == 3


def test_faults_are_counted_in_a_row_and_the_gpu_is_known_by_its_uuid(make: Make) -> None:
    workers = make({"all": {"probe": "die"}, "0": {"probe": 0}})
    assert work(workers) == 0
    workers.exchange({"do": "fault"}, [], seconds=30.0)
    with pytest.raises(GpuUnusable, match="GPU-5f is given up after 3 faults in a row"):
        work(workers)


def test_one_bad_start_is_made_good_by_the_next(make: Make) -> None:
    workers = make({"0": {"probe": "die"}, "1": {"load": "die"}})
    assert work(workers) == 2


def test_a_spare_that_dies_leaves_the_worker_alone(make: Make, tmp_path: Path) -> None:
    workers = make({"all": {"probe": "die"}, "0": {"probe": 0}})
    until(lambda: work(workers) == 0 and len(list(tmp_path.glob("*/load"))) == 5)
    for _ in range(20):  # no other is tried while the worker is well
        assert work(workers) == 0
        time.sleep(0.02)
    with workers.quiet():
        assert work(workers) == 0


def test_the_deadline_is_a_multiple_of_eager_times_runs_within_bounds(
    trace: Callable[[str, str], Traced], sources: dict[str, str], settings: JudgeSettings
) -> None:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None
    plan, bounded = decode(traced.plan), replace(settings, max_slowdown=1000.0, replay_seconds=60.0)
    assert run_seconds(plan, bounded, eager_us=1e3, num_cases=3) == pytest.approx(6.0)  # one of them up to four times
    assert run_seconds(plan, bounded, eager_us=10.0, num_cases=3) == 0.5
    assert run_seconds(plan, bounded, eager_us=1e6, num_cases=3) == 60.0


# --- on a GPU -----------------------------------------------------------------------------------------------------

Replay = Callable[..., Verdict]
STORE = "    tl.store(y_ptr + offsets, tl.maximum(x, 0.0), mask=mask)"
# Ends by itself after some ten seconds: 2^32 dependent multiplications and additions in each thread.
SLOW = (
    "    for _ in range(4):\n        for _ in range(1 << 30):\n            x = x * 1.0001 + 0.5\n"
    "    tl.store(y_ptr + offsets, x, mask=mask)"
)


@pytest.fixture(scope="module")
def gpu_judge(settings: JudgeSettings) -> Iterator[GpuJudge]:
    judge = GpuJudge(replace(settings, mode="replay", timing_rounds=0), device=0)
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def replay(tracer: Tracer, gpu_judge: GpuJudge, sources: dict[str, str]) -> Replay:
    """The verdict on the small ReLU, with parts of its text replaced; timed by the caller, so traced before."""

    def judge(*changes: tuple[str, str]) -> Verdict:
        problem = Problem(id="relu", source=sources["relu"], origin="test")
        source = sources["relu_answer"]
        for old, new in changes:
            source = source.replace(old, new)
        candidate = Candidate(problem_id="relu", source=source, operator=Operator.DRAFT)
        traced = tracer.trace(problem, candidate)
        assert traced.plan is not None, traced.failure
        start = time.monotonic()
        found = gpu_judge.judge(problem, candidate, traced)
        print(f"{found.status}: {time.monotonic() - start:.3f} s, {dict(found.stage_seconds)}")
        return replace(found, stage_seconds={**found.stage_seconds, "judge": time.monotonic() - start})

    return judge


FAR = ("x_ptr + offsets", "x_ptr + offsets.to(tl.int64) * (1 << 33)")


@pytest.fixture
def settled(gpu_judge: GpuJudge) -> None:
    """A worker that is warm, and a spare that has done its imports and been told to open the GPU."""
    for pause in (10.0, 2.0, 0.0):  # each exchange moves the spare on
        gpu_judge._ours({"do": "probe"}, seconds=60.0)
        time.sleep(pause)


@pytest.mark.gpu
def test_an_illegal_access_costs_the_next_candidate_less_than_a_second(settled: None, replay: Replay) -> None:
    fault = replay(FAR)
    assert fault.status is Status.ILLEGAL_ACCESS, fault.feedback
    after = replay(("BLOCK=1024", "BLOCK=2048"))
    assert after.status is Status.PASSED, after.feedback
    assert fault.stage_seconds["judge"] + after.stage_seconds["judge"] < 1.0  # on the GPU; tracing is elsewhere


@pytest.mark.gpu
def test_a_hung_kernel_is_evicted_soon_after_its_deadline(settled: None, replay: Replay) -> None:
    hung = replay((STORE, SLOW))
    assert hung.status is Status.TIMEOUT, hung.feedback
    assert hung.failure is not None and "times PyTorch's own time" in hung.failure.message
    assert hung.stage_seconds["judge"] < 0.5 + 2.0
    assert replay(("BLOCK=1024", "BLOCK=4096")).status is Status.PASSED


@pytest.mark.gpu
def test_running_out_of_device_memory_is_told_and_the_worker_goes_on(replay: Replay) -> None:
    # 128 GiB, just below what a plan may have.
    sizes = "torch.zeros(1 << 34, device=x.device), torch.zeros((1 << 34) - (1 << 22), device=x.device)"
    huge = f"y = torch.empty_like(x)\n        huge = [{sizes}]"
    found = replay(("y = torch.empty_like(x)", huge))
    assert found.status is Status.OUT_OF_MEMORY, found.feedback
    assert replay(("num_warps", "num_warps")).status is Status.PASSED


@pytest.mark.gpu
def test_a_verdict_says_which_gpu_it_is_from(replay: Replay) -> None:
    found = replay(("num_warps", "num_warps"))
    assert found.correctness is not None
    assert found.correctness.conditions["gpu_uuid"].startswith("GPU-")
