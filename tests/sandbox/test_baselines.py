"""Which baseline counts, what is kept of the others and what is said of those left out: with scripted processes."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sandbox.baseline_cache import BaselineCache, BaselineTime, Kept
from sandbox.baselines import Baselines, TimingTask, baseline_environment
from sandbox.clocks import Clocks, parse_clocks
from sandbox.settings import JudgeSettings
from sandbox.time_on_gpu import Timed, TimeOnGpu
from sandbox.types import BASELINES, Problem
from sandbox.zygote import SandboxError

ResultT = TypeVar("ResultT")
ROOT = Path(__file__).parents[2]
# Scripted behaviour of each baseline: {"us": [times in turn]}, and at "prepare" "hang", "unusable", "kind" or
# "crash": how often it kills the process. "measure_crash": likewise at measure. Counts live in a file. "short" names
# those that have no room until there is a file that ends with ".room".
SCRIPT = f"""
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from sandbox.worker_process import read_message, write_message
out, log, script = os.fdopen(os.dup(1), "wb"), Path(sys.argv[1]), json.loads(sys.argv[2])
turns = {{}}
def note(line):
    with log.open("a") as file:
        file.write(line + "\\n")
def crash(name, key):
    note(f"{{key}} {{name}}")
    if log.read_text().splitlines().count(f"{{key}} {{name}}") <= script[name].get(key, 0):
        os.kill(os.getpid(), signal.SIGSEGV)
note("start")
held = set()
while (message := read_message(sys.stdin.buffer)):
    body = message[0]
    name = body.get("name")
    reply = {{}}
    if body["do"] == "probe":
        reply = {{"healthy": True, "conditions": {{"gpu": "scripted", "torch": script["torch"]}},
                 "gpu_uuid": script.get("gpu_uuid")}}
    elif body["do"] == "open":
        reply = {{"unusable": script.get("open")}}
    elif body["do"] == "prepare":
        if name not in held:
            crash(name, "crash")
        if script[name].get("hang"):
            time.sleep(60)
        held.add(name)
        short = name in script.get("short", ()) and not log.with_suffix(".room").exists()
        kind = script[name].get("kind", body["kind"])
        reply = {{"unusable": "out of memory" if short else script[name].get("unusable"), "kind": kind,
                 "out_of_memory": short,
                 "uncapturable": None if kind == body["kind"] else "cannot be captured"}}
    elif body["do"] == "measure":
        assert name in held
        crash(name, "measure_crash")
        us = script[name]["us"]
        turns[name] = turns.get(name, -1) + 1
        reply = {{"times_us": [us[turns[name] % len(us)]] * body["replays"]}}
    elif body["do"] == "forget":
        held -= set(body["names"])
    write_message(out, {{"json": json.dumps(reply)}})
"""
FAST: dict[str, Any] = {
    "eager": {"us": [30.0]}, "compile": {"us": [20.0]}, "compile_max_autotune": {"us": [22.0]}, "torch": "1",
}  # fmt: skip
TASK = TimingTask(
    problem=Problem(id="p", source="source", origin="test"), spec={}, seed=1, timing_seeds=(2, 3)
)  # fmt: skip


class Timing:
    """A `TimeOnGpu` on scripted processes; the candidate's answers are scripted in this one."""

    def __init__(self, settings: JudgeSettings, log: Path, script: dict[str, Any]) -> None:
        command = [sys.executable, "-c", SCRIPT, str(log), json.dumps(script)]
        compile_seconds = 1.0 if "hang" in json.dumps(script) else 60.0
        self.baselines = Baselines(settings, device=0, compile_seconds=compile_seconds, command=command)
        self.timing = TimeOnGpu(settings, baselines=self.baselines, clocks=Clocks("no-such-gpu"))
        self.log, self.candidate_us, self.kind = log, 10.0, "graph"
        self.stages: list[str] = []
        self.gpu: dict[str, str] = {}  # what the candidate's process says of it

    def ask(self, request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = {"status": None, "not_timed": None}
        if request["do"] == "prepare":
            kind = "stream" if self.kind == "stream" else request["kind"]
            with self.log.open("a") as file:
                file.write(f"candidate {kind}\n")
            reply |= {"kind": kind, "uncapturable": None if kind == request["kind"] else "it synchronises",
                      "floor_us": 1.0, "least_plausible_us": 0.5, "num_sets": 2, "conditions": self.gpu}  # fmt: skip
        elif request["do"] == "measure":
            with self.log.open("a") as file:
                file.write("candidate measure\n")
            reply["times_us"] = [self.candidate_us] * request["replays"]
        return reply

    def time(self, task: TimingTask = TASK) -> Timed:
        def noted(stage: str, work: Callable[[], ResultT]) -> ResultT:
            self.stages.append(stage)
            return work()

        return self.timing.time(task, key="k", ask=self.ask, stage=noted)

    def lines(self, *kinds: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line in kinds]


@pytest.fixture
def make(settings: JudgeSettings, tmp_path: Path) -> Iterator[Callable[..., Timing]]:
    made: list[Timing] = []

    def timing(changes: dict[str, Any] | None = None, **settings_changes: object) -> Timing:
        chosen: dict[str, Any] = {"baselines": BASELINES, "timing_seconds": 0.1, **settings_changes}
        made.append(Timing(replace(settings, **chosen), tmp_path / f"log{len(made)}", {**FAST, **(changes or {})}))
        return made[-1]

    yield timing
    for each in made:
        each.baselines.close()


def test_the_headline_is_against_the_fastest_and_all_are_shown(make: Callable[..., Timing]) -> None:
    timing = make()
    found = timing.time().performance
    assert found is not None and (found.against, found.speedup) == ("compile", 2.0)
    assert found.baseline_us == {"eager": 30.0, "compile": 20.0, "compile_max_autotune": 22.0}
    assert found.samples_us["candidate"] == (10.0,) * 6 and found.samples_us["compile"] == (20.0,) * 6
    assert found.conditions["ended"] == "interval" and "eager" in found.conditions["baselines"]
    assert "sm_clock_mhz" not in found.conditions  # nobody to ask
    assert set(timing.stages) == {"time", "baseline"}
    assert found.conditions["precision"].startswith("ieee")
    measured = timing.lines("candidate measure", "measure_crash compile")[-12:]
    assert measured == ["candidate measure", "measure_crash compile"] * 6  # A B A B


def test_a_baseline_is_measured_once_a_problem(make: Callable[..., Timing]) -> None:
    timing = make()
    timing.time()
    once = len(timing.lines("measure_crash eager"))
    timing.time()
    assert len(timing.lines("measure_crash eager")) == once > 0


def test_others_are_scaled_as_the_best_has_changed(make: Callable[..., Timing], tmp_path: Path) -> None:
    make(cache_dir=str(tmp_path / "cache")).time()
    found = make({"compile": {"us": [20.5]}}, cache_dir=str(tmp_path / "cache")).time().performance
    assert found is not None and found.baseline_us["compile"] == 20.5
    assert found.baseline_us["eager"] == pytest.approx(30.75) and "times 1.025" in found.conditions["baselines"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compile": {"us": [20.0], "unusable": "WrongAnswer: its answer is not eager's"}}, "not eager's"),
        ({"compile": {"us": [20.0], "unusable": "BackendCompilerFailed: no gcc"}}, "no gcc"),
        ({"compile": {"us": [20.0], "hang": True}}, "not compiled within 1 s"),
        ({"compile": {"us": [20.0], "crash": 9}}, "signal 11"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_left_out_and_said(
    make: Callable[..., Timing], changes: dict[str, Any], words: str
) -> None:
    found = make(changes).time().performance
    assert found is not None and found.against == "compile_max_autotune"
    assert words in found.conditions["left_out.compile"] and "compile" not in found.baseline_us


@pytest.mark.parametrize("changes", [{"eager": {"unusable": "no memory: 90 GiB"}}, {"open": "no memory: 90 GiB"}])
def test_without_any_baseline_nothing_is_timed(make: Callable[..., Timing], changes: dict[str, Any]) -> None:
    timed = make(changes, baselines=("eager",)).time()
    assert timed.performance is None and timed.not_timed is not None and "90 GiB" in timed.not_timed


@pytest.mark.parametrize("short", [["compile"], list(BASELINES)])
def test_a_baseline_without_room_beside_an_engine_counts_once_there_is_room(
    make: Callable[..., Timing], tmp_path: Path, short: list[str]
) -> None:
    """Neither the slower baselines nor their absence may be remembered."""
    timing = make({"short": short}, cache_dir=str(tmp_path / "cache"))
    timing.baselines.has_whole_gpu = False
    timed = timing.time()
    assert timed.performance is None and timed.short_of_memory
    timing.log.with_suffix(".room").touch()
    timing.baselines.has_whole_gpu = True
    found = timing.time().performance
    assert found is not None and found.against == "compile"
    again = make({"short": short}, cache_dir=str(tmp_path / "cache"))  # another process, and no room for the best
    again.baselines.has_whole_gpu = False
    assert again.time().short_of_memory
    again.log.with_suffix(".room").touch()
    found = again.time().performance
    assert found is not None and found.against == "compile"


def test_a_baseline_that_no_gpu_has_room_for_is_left_out(make: Callable[..., Timing]) -> None:
    timing = make({"short": ["compile"]})
    found = timing.time().performance
    assert found is not None and found.against == "compile_max_autotune"
    assert "out of memory" in found.conditions["left_out.compile"]


@pytest.mark.parametrize("key", ["crash", "measure_crash"])
def test_a_baseline_process_that_dies_is_replaced_once(make: Callable[..., Timing], key: str) -> None:
    timing = make({"eager": {"us": [30.0], key: 1}}, baselines=("eager",))
    found = timing.time().performance
    assert found is not None and found.speedup == 3.0
    assert len(timing.lines("start")) == 2
    with pytest.raises(SandboxError, match="twice"):
        make({"eager": {"us": [30.0], key: 99}}, baselines=("eager",)).time()


def test_a_baseline_process_that_dies_in_the_rounds_is_replaced(make: Callable[..., Timing]) -> None:
    timing = make(baselines=("eager",))
    timing.time()
    worker = timing.baselines._worker
    assert worker is not None
    ask = timing.ask
    killed: list[int] = []

    def killing(request: Any) -> dict[str, Any]:
        if request["do"] == "measure" and not killed:
            killed.append(worker.pid)
            worker.kill()
        return ask(request)

    timing.ask = killing  # type: ignore[method-assign]
    found = timing.time().performance
    assert killed and found is not None and found.speedup == 3.0


def test_both_sides_run_on_a_stream_where_one_cannot_be_captured(make: Callable[..., Timing]) -> None:
    theirs = make({"eager": {"us": [30.0], "kind": "stream"}}, baselines=("eager",))
    found = theirs.time().performance
    assert found is not None and found.conditions["timer"] == "stream, events (eager: cannot be captured)"
    assert theirs.lines("candidate graph", "candidate stream") == ["candidate graph", "candidate stream"]
    ours = make(baselines=("eager",))
    ours.kind = "stream"
    found = ours.time().performance
    assert found is not None and found.conditions["timer"] == "stream, events (it synchronises)"


def test_racing_stops_early_and_says_so(make: Callable[..., Timing]) -> None:
    timing = make(racing=True, baselines=("eager",))
    best = timing.time()
    timing.candidate_us = 15.0
    slower = timing.time()
    assert slower.performance is not None and slower.labels == ("raced_out",) and best.labels == ()
    assert slower.performance.conditions["ended"] == "raced_out"
    assert "below 3" in slower.performance.conditions["raced_out"]
    other = timing.time(replace(TASK, problem=replace(TASK.problem, source="another")))
    assert other.labels == ()


def test_times_survive_the_process_and_only_the_best_is_made_again(make: Callable[..., Timing], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    make(cache_dir=cache).time()
    again = make(cache_dir=cache)
    found = again.time().performance
    assert found is not None and found.baseline_us["eager"] == 30.0
    assert "by an earlier process" in found.conditions["baselines"]
    assert again.lines("crash eager", "crash compile", "crash compile_max_autotune") == ["crash compile"]
    for changed in (make({"torch": "2"}, cache_dir=cache), make(cache_dir=cache, precision=("ieee", "tf32"))):
        changed.time()  # other versions, another precision: other times
        assert changed.lines("crash eager") == ["crash eager"]


def test_times_that_another_gpu_measured_say_so(make: Callable[..., Timing], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    make({"gpu_uuid": "GPU-a"}, cache_dir=cache).time()
    same, other = (make({"gpu_uuid": uuid}, cache_dir=cache) for uuid in ("GPU-a", "GPU-b"))
    told = [timing.time().performance for timing in (same, other)]
    assert told[0] is not None and "by an earlier process, times" in told[0].conditions["baselines"]
    assert (
        told[1] is not None and "by an earlier process on another GPU, GPU-a, times" in told[1].conditions["baselines"]
    )
    assert other.lines("measure_crash compile"), "what the speedup is against was measured here"


def test_a_baseline_on_another_gpu_than_the_candidate_is_our_fault(make: Callable[..., Timing]) -> None:
    timing = make({"gpu_uuid": "GPU-a"})
    timing.gpu = {"gpu_uuid": "GPU-a"}
    assert timing.time().performance is not None
    timing.gpu = {"gpu_uuid": "GPU-b"}
    with pytest.raises(SandboxError, match="the baselines run on GPU-a, and the candidate on GPU-b"):
        timing.time()


def test_kept_times_that_are_off_are_measured_anew(make: Callable[..., Timing], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    make(cache_dir=cache).time()
    slower = make({"eager": {"us": [60.0]}, "compile": {"us": [40.0]}}, cache_dir=cache)
    first = slower.time().performance
    assert first is not None and first.baseline_us["eager"] == 60.0 and "2.000" in first.conditions["baselines_drift"]
    second = slower.time().performance
    assert second is not None and second.against == "compile_max_autotune"
    assert "baselines_drift" not in second.conditions


def test_a_broken_cache_file_is_as_good_as_none(tmp_path: Path) -> None:
    cache = BaselineCache(tmp_path / "baselines")
    for text in ("", "[]", '{"baselines": {"eager": {"time_us": -1.0, "kind": "graph"}}}', '{"baselines": 3}'):
        (tmp_path / "baselines" / "k.json").write_text(text)
        assert cache.load("k").times == {}
    times = {"eager": BaselineTime(time_us=3.0, kind="graph")}
    cache.store("k", times, conditions={})
    assert cache.load("k") == Kept(times=times, gpu_uuid=None)
    cache.drop("k")
    assert cache.load("k").times == {}


def test_a_cache_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines").chmod(0o777)
    with pytest.raises(SandboxError, match="cache_dir"):
        BaselineCache(tmp_path / "baselines")


def test_compiled_baselines_are_kept_for_this_user_alone(tmp_path: Path) -> None:
    found = baseline_environment("/home", device=0, cache_dir=tmp_path)
    folder = Path(found["TORCHINDUCTOR_CACHE_DIR"])
    assert tmp_path in folder.parents and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "/home" in baseline_environment("/home", device=0, cache_dir=None)["TORCHINDUCTOR_CACHE_DIR"]


def test_clocks_are_read_from_one_line_and_absent_where_there_is_none() -> None:
    found = parse_clocks("1980, 3201, 41, 118.20, 0x0000000000000000\n")
    assert found["sm_clock_mhz"] == "1980" and found["throttle_reasons"] == "0x0000000000000000"
    assert "power_w" not in parse_clocks("1980, 3201, 41, [N/A], 0x0")
    assert parse_clocks("") == {} and Clocks("no-such-gpu").read() == {}
