"""Judges on several GPUs of one host, scripted, under a Ray that believes in two: whose verdict it is, and what becomes
of a GPU that fails. An `nvidia-smi` of our own says which they are."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.config import RayConfig
from agent.engine_config import EngineConfig
from agent.faults import Fault, FaultKind
from agent.pool import PoolError
from agent.sampler_config import VllmSamplerConfig
from sandbox.types import Status, Verdict
from tests.agent import twin_workers
from tests.agent.twin_workers import PROBLEM, SETTINGS, candidate, noted, open_judge, open_tracer

ray = pytest.importorskip("ray")

from agent.ray_engines import open_engines  # noqa: E402  after the check that Ray is there
from agent.ray_pool import RayPool  # noqa: E402

A, B = "GPU-aaaaaaaa", "GPU-bbbbbbbb"
SMI = f"""#!/bin/sh
echo "0, {A}, NVIDIA H100 80GB HBM3, 81559, Disabled"
echo "1, {B}, $(cat "$(dirname "$0")/model"), 81559, Disabled"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with its `nvidia-smi`; the file `model` there is what the second GPU is."""
    folder = tmp_path_factory.mktemp("smi")
    (folder / "nvidia-smi").write_text(SMI)
    (folder / "nvidia-smi").chmod(0o755)
    (folder / "model").write_text("NVIDIA H100 80GB HBM3")
    ray.cloudpickle.register_pickle_by_value(twin_workers)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{path}"
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=4, num_gpus=2, **quiet)
    yield folder
    ray.shutdown()
    os.environ["PATH"] = path


class Bench:
    """A pool on both GPUs, and what it told of them."""

    def __init__(self, folder: Path, *, judges: int | None = None) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.pool = RayPool(
            replace(SETTINGS, mode="replay"),
            RayConfig(trace_workers=1, judges=judges),
            tell=self.faults.append,
            tracer_factory=partial(open_tracer, folder=folder),  # type: ignore[arg-type]  # a twin
            judge_factory=partial(open_judge, folder=folder),
        )

    async def judged(self, *sources: str) -> list[Verdict]:
        return list(await asyncio.gather(*(self.pool.judge(PROBLEM, candidate(source)) for source in sources)))

    async def both_are_up(self) -> None:
        """A replacement imports for seconds, and until then the other one takes everything."""
        async with asyncio.timeout(120.0):
            while len(self.pool.seats()) < 2:
                await asyncio.sleep(0.02)

    def bad(self, gpu: str, how: str) -> None:
        (self.folder / f"bad {gpu}").write_text(how)

    def kinds(self) -> Counter[tuple[str, str]]:
        return Counter((fault.kind.value, gpu) for fault in self.faults for gpu in fault.gpus)


def on_two_gpus(folder: Path, work: Callable[[Bench], object], *, judges: int | None = None) -> Bench:
    """Runs `work` on a fresh pool; waits until Ray has the GPUs back, for the next test."""

    async def whole() -> Bench:
        bench = Bench(folder, judges=judges)
        try:
            await work(bench)  # type: ignore[misc]
        finally:
            await bench.pool.close()
        return bench

    bench = asyncio.run(whole())
    deadline = time.monotonic() + 60.0
    while ray.available_resources().get("GPU") != 2.0:
        assert time.monotonic() < deadline, "a closed pool's workers still hold their GPUs"
        time.sleep(0.05)
    return bench


SOURCES = tuple(f"judge_slow:{number}" for number in range(8))


def test_judges_take_all_gpus_and_each_verdict_names_its_own(cluster: Path, tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        assert [(seat.gpu, seat.visible) for seat in sorted(bench.pool.seats(), key=lambda seat: seat.visible)] == [
            (A, "0"),
            (B, "1"),
        ]
        found = await bench.judged(*SOURCES)
        assert {verdict.gpu for verdict in found} == {A, B}
        assert all(verdict.labels == (verdict.gpu,) for verdict in found), "the judge's processes are given the UUID"
        again = await bench.judged("x:0")
        assert again[0].gpu == found[0].gpu, "an equal plan was judged there"

    bench = on_two_gpus(tmp_path, work)
    assert noted(tmp_path).count("judge opened on 0") == 2
    assert bench.faults == []


def test_a_judge_killed_in_mid_job_takes_nothing_with_it(cluster: Path, tmp_path: Path) -> None:
    victim = "judge_dies_once:v"

    async def work(bench: Bench) -> None:
        found = await bench.judged(*SOURCES[:3], victim, *SOURCES[3:])
        assert [verdict.status for verdict in found] == [Status.PASSED] * 9
        assert {verdict.gpu for verdict in found} <= {A, B}
        await bench.both_are_up()
        more = await bench.judged(*(f"judge_slow:more{number}" for number in range(4)))
        assert {verdict.gpu for verdict in more} == {A, B}, "the killed one was replaced on its GPU"

    bench = on_two_gpus(tmp_path, work)
    tries = Counter(line for line in noted(tmp_path) if line.startswith("judge ") and ":" in line)
    assert tries.pop(f"judge {victim}") == 2
    assert set(tries.values()) == {1}, "nothing else was judged twice"
    assert [kind for kind, _ in bench.kinds()] == ["judge_failed"]


@pytest.mark.parametrize("how", ["fails", "dies", "gone"])
def test_a_gpu_that_fails_again_and_again_is_left_alone_by_uuid(cluster: Path, tmp_path: Path, how: str) -> None:
    async def work(bench: Bench) -> None:
        bench.bad(B, how)
        # A few at a time: what fails thrice in a row must be several candidates, and none of them may lose.
        for start in range(0, 8, 2):
            found = await bench.judged(*SOURCES[start : start + 2])
            assert [(verdict.status, verdict.gpu) for verdict in found] == [(Status.PASSED, A)] * 2
        deadline = time.monotonic() + 120.0
        while bench.kinds()["gpu_quarantined", B] == 0:  # one that died may still be on its way up
            await bench.judged(f"judge_slow:{time.monotonic()}", f"judge_slow:again{time.monotonic()}")
            assert time.monotonic() < deadline
        (bench.folder / f"bad {B}").unlink()
        late = await bench.judged(*(f"judge_slow:late{number}" for number in range(4)))
        assert {verdict.gpu for verdict in late} == {A}, "well again, and still not used"

    bench = on_two_gpus(tmp_path, work)
    assert bench.kinds()["gpu_quarantined", B] == 1
    assert not any(gpu == A for _, gpu in bench.kinds())
    assert FaultKind.GPU_QUARANTINED in {fault.kind for fault in bench.faults}


def test_a_judge_is_not_replaced_onto_a_gpu_in_quarantine(cluster: Path, tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.bad(B, "gone")
        await bench.judged(*SOURCES[:4])
        assert bench.kinds()["gpu_quarantined", B] == 1
        (bench.folder / f"bad {B}").unlink()
        found = await bench.judged("judge_dies_once:v", "judge_slow:w")
        assert [(verdict.status, verdict.gpu) for verdict in found] == [(Status.PASSED, A)] * 2

    on_two_gpus(tmp_path, work)


def test_one_candidate_alone_brings_no_gpu_into_quarantine(cluster: Path, tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        with pytest.raises(PoolError, match="attempt 3"):
            await bench.pool.judge(PROBLEM, candidate("judge_fails:evil"))
        assert {verdict.gpu for verdict in await bench.judged(*SOURCES[:4])} == {A, B}

    bench = on_two_gpus(tmp_path, work)
    assert {kind for kind, _ in bench.kinds()} == {"judge_failed"}


def test_where_an_engine_was_given_up_no_judge_is_placed_either(cluster: Path, tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        (mine,) = (seat.gpu for seat in bench.pool.seats())
        (other,) = {A, B} - {mine}
        assert mine is not None
        bench.pool.hear(Fault(kind=FaultKind.ENGINE_DIED, gpus=(other,), reason="engine 1: it died"))
        assert bench.kinds()["gpu_quarantined", other] == 0
        bench.pool.hear(Fault(kind=FaultKind.ENGINE_GIVEN_UP, gpus=(mine, other), reason="engine 1: it died again"))
        assert bench.kinds()["gpu_quarantined", other] == 1
        assert bench.kinds()["gpu_quarantined", mine] == 0, "the judge that is there shows that the GPU works"
        for number in range(3):
            found = await bench.judged(f"judge_dies_once:{number}")
            assert [(verdict.status, verdict.gpu) for verdict in found] == [(Status.PASSED, mine)]

    on_two_gpus(tmp_path, work, judges=1)


@pytest.mark.parametrize(("judges", "shared"), [(None, True), (1, False)])
def test_engines_share_the_judges_gpus_or_have_the_others(
    cluster: Path, tmp_path: Path, judges: int | None, shared: bool
) -> None:
    async def work(bench: Bench) -> None:
        seats = bench.pool.seats()
        engines = open_engines(
            VllmSamplerConfig(kind="vllm", model="m"), EngineConfig(), num_engines=len(seats),
            seats=seats if shared else None, on_gpu=True, engine_class=twin_workers.TwinEngine, arguments={},
        )  # fmt: skip
        try:
            found = [(await engine.start()).gpus for engine in engines]
        finally:
            for engine in engines:
                await engine.stop()
        taken = [(seat.visible,) for seat in seats]
        assert found == taken if shared else sorted([*found, *taken]) == [("0",), ("1",)]

    on_two_gpus(tmp_path, work, judges=judges)


def test_unlike_gpus_are_refused(cluster: Path, tmp_path: Path) -> None:
    (cluster / "model").write_text("NVIDIA H200")
    try:
        with pytest.raises(PoolError, match=r"unlike GPUs \(NVIDIA H100 80GB HBM3, NVIDIA H200\)"):
            Bench(tmp_path)
    finally:
        (cluster / "model").write_text("NVIDIA H100 80GB HBM3")
