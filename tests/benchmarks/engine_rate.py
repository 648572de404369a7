"""How fast a vLLM engine under our Ray actor and sampler answers, against vLLM alone, and what sleep and death cost.

    python -m tests.benchmarks.engine_rate --out FILE             # on a GPU machine with vLLM and Ray
    python -m tests.benchmarks.engine_rate --tiny --out FILE      # a tiny shape, also on a CPU: does the script work?

The model has the shape of Llama-3.1-8B, dummy weights and a tokenizer trained on this repository's files, filled up to
the same vocabulary: rates are those of the shape, the text is noise. Prompts are 16 times 16 equal ones of random
tokens, as 16 samples of 16 problems, all in flight at once. Phases, in order, each only while the budget lasts:

    bare      `LLM.generate` in a process of its own: with a seed for each sample, as ours are, and without
    ours      the sampler over one engine in a Ray actor
    sleep     that engine put to sleep and woken
    kill      its processes killed while all are in flight: how long until every answer is there

Both sides have the same arguments and environment of vLLM's, so that the second finds what the first has compiled. A
rate is told for each round, the first of which warms up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.engine_config import EngineConfig
from agent.sampler import Completion, Sampler, SampleRequest
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import children_of
from sandbox import environment
from sandbox.gpu_workers import visible_gpu
from sandbox.types import Operator, Problem, Proposal
from tests.benchmarks.budget import Budget, run_within
from tests.llama_folder import LLAMA_8B, TINY, make_folder

PHASES = ("bare", "ours", "sleep", "kill")
NUM_PROMPTS = 16
WARM_UP_TOKENS = 64  # of bare vLLM, whose answers may have another length each round; ours warms up with a whole round
# Graphs for batches of these sizes only; the others are filled up. Capturing all that vLLM would takes half a minute.
GRAPHS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256)
BATCHED_TOKENS = 8192
FLASHINFER = "VLLM_USE_FLASHINFER_SAMPLER"  # on by vLLM's default
BARE_SHARE = 0.65  # of the time, at most, where more is to come
TEMPERATURE, TOP_P = 1.0, 0.97


def prompts_of(length: int, *, vocabulary: int) -> list[list[int]]:
    """The same in every process."""
    dice = random.Random(0)
    return [[dice.randrange(2, min(vocabulary, 8000)) for _ in range(length)] for _ in range(NUM_PROMPTS)]


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """AsyncEngineArgs' keywords that both sides have beside those of `agent.ray_engines`."""
    options: dict[str, Any] = {
        "enforce_eager": args.eager,
        "max_model_len": args.prompt_tokens + args.max_tokens + 8,
        "max_num_batched_tokens": BATCHED_TOKENS,
        "enable_sleep_mode": "sleep" in args.phases and on_gpu(),
    }
    if not on_gpu():
        options["enable_chunked_prefill"] = False
    elif not args.eager:
        options["cudagraph_capture_sizes"] = [size for size in GRAPHS if size <= args.in_flight]
    return options


def on_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def gpu_mib() -> int | None:
    """Memory in use on the GPU that is used here; None without one."""
    try:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", visible_gpu(0)]
        return int(subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def bare(args: argparse.Namespace) -> None:
    """vLLM alone, in this process. Writes what it has found after each round."""
    import vllm
    from vllm import LLM, SamplingParams

    start = time.monotonic()
    share = 0.3 if args.tiny else 0.9
    llm = LLM(
        model=args.model, load_format="dummy", max_num_seqs=args.in_flight, gpu_memory_utilization=share,
        enable_prefix_caching=True, disable_log_stats=True, **engine_options(args),
    )  # fmt: skip
    found: dict[str, Any] = {"vllm": vllm.__version__, "up_seconds": time.monotonic() - start}
    prompts = prompts_of(args.prompt_tokens, vocabulary=shape_of(args).vocabulary)
    asked: Any = [{"prompt_token_ids": prompts[number % NUM_PROMPTS]} for number in range(args.in_flight)]

    def rate_of(*, seeded: bool, max_tokens: int) -> float:
        params = [
            SamplingParams(max_tokens=max_tokens, seed=number if seeded else None, temperature=TEMPERATURE, top_p=TOP_P)
            for number in range(args.in_flight)
        ]
        start = time.monotonic()
        outputs = llm.generate(asked, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.monotonic() - start)

    for name, seeded in (("seeded", True), ("unseeded", False)):
        rate_of(seeded=seeded, max_tokens=min(WARM_UP_TOKENS, args.max_tokens))
        found[name] = []
        for _ in range(args.rounds):
            found[name].append(rate_of(seeded=seeded, max_tokens=args.max_tokens))
            args.bare.write_text(json.dumps({**found, "memory_mib": gpu_mib()}))


class EngineRate:
    """All phases. `found` has what each measured."""

    def __init__(self, args: argparse.Namespace, budget: Budget) -> None:
        self._args = args
        self._budget = budget
        self._phase = "making the model's folder"
        self._found: dict[str, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None

    def work(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            self._args.model = str(make_folder(Path(folder) / "model", shape_of(self._args), seed=None))
            self._found["folder_seconds"] = time.monotonic() - start
            if "bare" in self._args.phases:
                self._phase = "bare"
                self._found["bare"] = self._run_bare(Path(folder) / "bare.json")
            if set(self._args.phases) - {"bare"} and self._budget.left_seconds > 0:
                asyncio.run(self._run_ours(Path(folder)))
        self._phase = "done"

    def _run_bare(self, out: Path) -> dict[str, Any]:
        """In a process of its own, whose end frees the GPU."""
        args = self._args
        command = [args.python or sys.executable, "-m", "tests.benchmarks.engine_rate", "--bare", str(out)]
        command += ["--model", args.model, "--prompt-tokens", str(args.prompt_tokens)]
        command += ["--max-tokens", str(args.max_tokens), "--in-flight", str(args.in_flight)]
        command += ["--rounds", str(args.rounds), "--phases", ",".join(args.phases)]
        command += ["--tiny"] * args.tiny + ["--eager"] * args.eager
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        self._child = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
        try:
            code = self._child.wait(timeout=BARE_SHARE * self._budget.left_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            code = self._child.wait()
        self._child = None
        found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
        return found if code == 0 else {**found, "failed": f"exit status {code}"}

    async def _run_ours(self, folder: Path) -> None:
        from agent.ray_cluster import start_ray
        from agent.ray_engines import engine_arguments, open_engines
        from agent.vllm_sampler import VllmSampler

        self._phase = "ours: starting Ray"
        start_ray(None)
        args = self._args
        config = VllmSamplerConfig(
            kind="vllm", model=args.model, max_tokens=args.max_tokens, concurrency=args.in_flight, repetition=None,
            temperature=TEMPERATURE, top_p=TOP_P,
        )  # fmt: skip
        engine = EngineConfig(
            load_format="dummy", python=args.python, memory_share=0.3 if args.tiny else None, max_restarts=1,
            environment={FLASHINFER: os.environ.get(FLASHINFER, "1")},  # as bare has it, though never used with seeds
        )  # fmt: skip
        arguments = engine_arguments(config, engine, on_gpu=on_gpu()) | engine_options(args)
        engines = open_engines(config, engine, num_engines=1, seats=None, on_gpu=on_gpu(), arguments=arguments)
        prompts = prompts_of(args.prompt_tokens, vocabulary=shape_of(args).vocabulary)
        sampler = VllmSampler(
            config, engines, encode=lambda text: prompts[int(text)], max_restarts=1, lease=None
        )  # fmt: skip
        try:
            start = time.monotonic()
            self._phase = "ours: starting the engine"
            (facts,) = await sampler.wait_until_up()
            ours = self._found["ours"] = {"vllm": facts.vllm, "up_seconds": time.monotonic() - start}
            ours["tokens_per_second"] = []
            for number in range(1 + args.rounds):
                self._phase = f"ours: round {number} of {args.rounds}, 0 warms up"
                found = await rate(sampler, num=args.in_flight)
                if number:
                    ours["tokens_per_second"].append(found)
            ours["memory_mib"] = gpu_mib()
            if "sleep" in args.phases and on_gpu() and self._budget.left_seconds > 0:
                self._phase = "sleep"
                await self._time_sleep(sampler, engines[0])
            if "kill" in args.phases and self._budget.left_seconds > 0:
                self._phase = "kill"
                await self._time_death(sampler, pid=facts.pid)
        finally:
            await sampler.close()

    async def _time_sleep(self, sampler: Any, engine: Any) -> None:
        found = self._found["sleep"] = {"before_mib": gpu_mib()}
        start = time.monotonic()
        await engine.sleep(True)
        found["sleep_seconds"] = time.monotonic() - start
        found["asleep_mib"] = gpu_mib()
        start = time.monotonic()
        await engine.wake_up()
        found["wake_up_seconds"] = time.monotonic() - start
        found["tokens_per_second_after"] = await rate(sampler, num=self._args.in_flight)
        await self._time_freezing(sampler, engine, found)

    async def _time_freezing(self, sampler: Any, engine: Any, found: dict[str, Any]) -> None:
        """With all requests in flight, which are answered afterwards."""
        asking = asyncio.create_task(all_answers(sampler, num=self._args.in_flight))
        await asyncio.sleep(0.5 if self._args.tiny else 5.0)
        num_open = sum(place.num_open for place in sampler._places)
        for name, switch in (("freeze_seconds", engine.sleep(False)), ("thaw_seconds", engine.wake_up())):
            start = time.monotonic()
            await switch
            found[name] = time.monotonic() - start
            if name == "freeze_seconds":
                await asyncio.sleep(1.0)
                found["answered_while_frozen"] = num_open - sum(place.num_open for place in sampler._places)
        found["answered_after_a_freeze"] = len(await asking)

    async def _time_death(self, sampler: Any, *, pid: int) -> None:
        found = self._found["kill"] = {"asked": self._args.in_flight}
        asking = asyncio.create_task(all_answers(sampler, num=self._args.in_flight))
        await asyncio.sleep(0.5 if self._args.tiny else 5.0)
        found["in_flight_at_the_kill"] = sum(place.num_open for place in sampler._places)
        for child in children_of(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        start = time.monotonic()
        answers = await asking
        found["seconds_to_all_answers"] = time.monotonic() - start
        found["answered"] = len(answers)
        found["tokens"] = sum(answer.completion_tokens for answer in answers)
        found["deaths"] = sampler.num_deaths

    def progress(self) -> str:
        return self._phase

    def record(self) -> dict[str, Any]:
        args = self._args
        conditions = {
            "shape": "tiny" if args.tiny else "Llama-3.1-8B, dummy weights",
            "in_flight": args.in_flight,
            "prompt_tokens": args.prompt_tokens,
            "max_tokens": args.max_tokens,
            "rounds": args.rounds,
            "vllm": engine_options(args),
            "gpu": environment.record()["gpu"],
        }
        return {"conditions": conditions, "phase": self._phase, **self._found}

    def show(self, record: dict[str, Any]) -> None:
        for phase in ("conditions", *PHASES):
            for name, value in record.get(phase, {}).items():
                print(
                    f"{phase:12} {name:28} {value:.1f}" if isinstance(value, float) else f"{phase:12} {name:28} {value}"
                )
        rates_of_ours = record.get("ours", {}).get("tokens_per_second")
        for name in ("unseeded", "seeded"):
            alone = record.get("bare", {}).get(name)
            if rates_of_ours and alone:
                ratio = statistics.fmean(rates_of_ours) / statistics.fmean(alone)
                print(f"{'ratio':12} {'ours to bare, ' + name:28} {ratio:.3f}, of means")

    def close(self) -> None:
        if self._child is not None:
            os.killpg(self._child.pid, signal.SIGKILL)
        for pid in children_of(os.getpid()):  # Ray's and vLLM's: this process ends without their doing
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def request(number: int) -> SampleRequest:
    return SampleRequest(
        problem=Problem(id=f"p{number % NUM_PROMPTS}", source="class Model: ...", origin="benchmark"),
        proposal=Proposal(id=f"draft-{number}", operator=Operator.DRAFT),
        ordinal=number,
        prompt=str(number % NUM_PROMPTS),
        parents=(),
        seed=number,
    )


async def all_answers(sampler: Sampler, *, num: int) -> Sequence[Completion]:
    return await asyncio.gather(*(sampler.sample(request(number)) for number in range(num)))


async def rate(sampler: Sampler, *, num: int) -> float:
    """Output tokens a second, from the first request to the last answer."""
    start = time.monotonic()
    answers = await all_answers(sampler, num=num)
    return sum(answer.completion_tokens for answer in answers) / (time.monotonic() - start)


def shape_of(args: argparse.Namespace) -> Any:
    return TINY if args.tiny else LLAMA_8B


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument(
        "--eager", action="store_true", help="no compiling and no CUDA graphs: starts sooner, runs slower"
    )
    parser.add_argument("--phases", type=lambda text: text.split(","), default=list(PHASES))
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--prompt-tokens", type=int, default=1100)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2, help="that count, of all prompts")
    parser.add_argument("--seconds", type=float, default=570.0, help="of wall time, for everything")
    parser.add_argument("--python", help="an interpreter with vLLM and Ray, if not this one")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.phases) - set(PHASES):
        parser.error(f"unknown phases {sorted(unknown)}; there are {', '.join(PHASES)}")
    if args.bare is not None:
        bare(args)
        return
    budget = Budget(args.seconds)
    run_within(budget, EngineRate(args, budget), out=args.out)


if __name__ == "__main__":
    main()
