"""Tracers and judges that do what a candidate's text says, and note it: for Ray pools without a sandbox."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.config import JudgeConfig
from agent.vllm_engine import EngineFacts
from sandbox.gpu_workers import GpuUnusable
from sandbox.judge import ProblemFailed, SandboxError, Traced, failed
from sandbox.settings import JudgeSettings
from sandbox.types import Candidate, Correctness, Failure, Finding, Operator, Problem, Spend, Status, Verdict

PROBLEM = Problem(id="relu", source="class Model: ...", origin="test")
SETTINGS = JudgeConfig(mode="interpret").settings(1, False)


def note(folder: Path, event: str) -> int:
    """Appends one line to the record of what the twins did, and says how many there are of its kind."""
    with (folder / "events").open("a") as file:
        file.write(event + "\n")
    return noted(folder).count(event)


def noted(folder: Path) -> list[str]:
    path = folder / "events"
    return path.read_text().split("\n")[:-1] if path.exists() else []


@dataclass
class Twin:
    """Does what the candidate's source says: `<verb>:<word>`, as `trace_dies_once:a`. The word is the plan.

    A file `bad <gpu>` in the folder has every judge on that GPU do what it says, `fails`, `dies` or `gone`.
    """

    folder: Path
    stage: str

    def play(self, candidate: Candidate) -> str:
        verb, _, word = candidate.source.partition(":")
        count = note(self.folder, f"{self.stage} {candidate.source}")
        self.suffer(os.environ["CUDA_VISIBLE_DEVICES"])
        if verb == f"{self.stage}_dies" or (verb == f"{self.stage}_dies_once" and count == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if verb == f"{self.stage}_fails" or (verb == f"{self.stage}_fails_once" and count == 1):
            raise SandboxError("the disk is full")
        if verb == f"{self.stage}_gone_once" and count == 1:
            raise GpuUnusable("GPU-5f is given up")
        if verb == f"{self.stage}_problem":
            raise ProblemFailed("the problem has no get_inputs")
        if verb == f"{self.stage}_bug":
            raise KeyError("oops")
        if verb == f"{self.stage}_slow":
            time.sleep(0.3)
        return word

    def suffer(self, gpu: str) -> None:
        path = self.folder / f"bad {gpu}"
        match path.read_text() if gpu and path.exists() else None:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "fails":
                raise SandboxError("the GPU worker failed")
            case "gone":
                raise GpuUnusable(f"{gpu} is given up")

    def close(self) -> None:
        note(self.folder, f"{self.stage} closed")


class TwinTracer(Twin):
    def trace(self, problem: Problem, candidate: Candidate) -> Traced:
        word = self.play(candidate)
        broken = word == "uncompilable"
        text = candidate.source
        wrong = Finding(rule="r", start=0, end=len(text), found=text, instead="right", message=f"{text} is wrong")
        return Traced(
            candidate_id=candidate.id,
            plan=None if broken else word.encode(),
            plan_hash=None if broken else f"hash of {word}",
            status=Status.COMPILE_ERROR if broken else None,
            failure=Failure(error_class="CompilationError", message="no such name") if broken else None,
            labels=("triton",),
            findings=(wrong,) if text.startswith("found") else (),
            stage_seconds={"trace": 0.25},
        )


class TwinJudge(Twin):
    has_whole_gpu = True

    def judge(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        self.play(candidate)
        assert traced.plan is not None
        if traced.findings:
            return failed(traced, Status.WRONG_VALUES, Failure(error_class="Scripted", message="as told"))
        cramped = candidate.source.startswith("cramped:") and not (self.folder / "room").exists()
        correctness = Correctness(
            checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=0.5, rms_error_ratio=0.5
        )
        return Verdict(
            candidate_id=candidate.id,
            status=Status.PASSED,
            correctness=correctness,
            plan_hash=traced.plan_hash,
            labels=("not_timed", "short_of_memory") if cramped else (os.environ["CUDA_VISIBLE_DEVICES"],),
            spend=Spend(judged=1, gpu_seconds=0.5 if cramped else 0.0),
            gpu=os.environ["CUDA_VISIBLE_DEVICES"] or None,
        )

    def verify(self, problem: Problem, candidate: Candidate, traced: Traced) -> Verdict:
        """Finds `wrong_...` wrong, and says `crowded_...` has no room."""
        note(self.folder, f"verify {candidate.source}")
        found = {"wrong": Status.WRONG_VALUES, "crowded": Status.OUT_OF_MEMORY}
        status = found.get(candidate.source.partition(":")[0])
        if candidate.source.startswith("problem:"):
            raise ProblemFailed("no room for the reference")
        if status is None:
            verdict = self.judge(problem, candidate, traced)
            return replace(verdict, labels=(), spend=Spend(judged=1, gpu_seconds=0.25))
        failure = Failure(error_class="Scripted", message="as told")
        return Verdict(candidate_id=candidate.id, status=status, failure=failure, spend=Spend(judged=1))

    def confirm(self, problem: Problem, candidate: Candidate, traced: Traced, *, settings: JudgeSettings) -> Verdict:
        note(self.folder, f"confirm on {settings.num_seeds} seeds, racing {settings.racing}")
        return replace(self.judge(problem, candidate, traced), labels=("anew",))


def open_tracer(settings: JudgeSettings, *, folder: Path) -> TwinTracer:
    note(folder, "trace opened")
    return TwinTracer(folder=folder, stage="trace")


def open_judge(settings: JudgeSettings, *, device: int | None, folder: Path) -> TwinJudge:
    note(folder, f"judge opened on {device}")
    return TwinJudge(folder=folder, stage="judge")


def candidate(source: str) -> Candidate:
    return Candidate(problem_id=PROBLEM.id, source=source, operator=Operator.DRAFT)


class TwinEngine:
    """Says which GPU it was given, as Ray names it."""

    def __init__(
        self, arguments: Mapping[str, object], *, visible_gpus: str | None, environment: Mapping[str, str]
    ) -> None:
        import ray

        booked = ",".join(str(gpu_id) for gpu_id in ray.get_gpu_ids())
        self._visible = booked if visible_gpus is None else visible_gpus

    async def start(self) -> EngineFacts:
        return EngineFacts(os.getpid(), "twin", 1000, True, (self._visible,))

    async def stop(self) -> None: ...
