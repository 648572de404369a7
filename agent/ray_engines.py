"""vLLM engines in Ray actors: one an actor, on GPUs of its own or on one that a judge has.

Knows nothing of requests' meaning or of who gets which; restarts are decided by the sampler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agent import vllm_engine
from agent.config import RunConfig
from agent.engine_config import EngineConfig
from agent.pool import Pool
from agent.ray_cluster import Seat, num_gpus_here, one_line, sizes_here, start_ray
from agent.ray_pool import RayPool
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import Answer, EngineDead, EngineFacts, RequestInvalid, VllmEngine
from agent.vllm_sampler import Encode, VllmSampler

if TYPE_CHECKING:
    from ray.actor import ActorHandle

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
ABORT_SECONDS = 60.0  # in which an engine that lives ends a step, and finds that it was asked something
SWITCH_SECONDS = 300.0  # to put an engine to sleep, or wake it; ten seconds were measured
MORE_CALLS = 64  # than requests: starting, checking, stopping must not queue behind them
OWN_SHARE, SHARED_SHARE = 0.9, 0.45  # of a GPU's memory


class EngineActor(VllmEngine):
    """What the actor holds. It sees the GPUs that Ray booked for it, or the one that it was told to share."""

    def __init__(
        self, arguments: Mapping[str, Any], *, visible_gpus: str | None, environment: Mapping[str, str]
    ) -> None:
        booked = ",".join(str(gpu_id) for gpu_id in ray.get_gpu_ids())
        super().__init__(
            arguments, visible_gpus=booked if visible_gpus is None else visible_gpus, environment=environment
        )


class RayEngine:
    """One engine; `start` makes a new actor each time. Every fault of Ray's is told as the engine's death."""

    def __init__(self, name: str, *, spawn: Callable[[], ActorHandle], start_seconds: float) -> None:
        self._name = name
        self._spawn = spawn
        self._start_seconds = start_seconds
        self._actor: ActorHandle | None = None

    @property
    def name(self) -> str:
        return self._name

    async def start(self) -> EngineFacts:
        await self.stop()
        try:
            self._actor = self._spawn()
        except (RayError, ValueError) as error:  # a node or an interpreter that is not there
            raise EngineDead(one_line(error)) from error
        facts = await self._call("start", seconds=self._start_seconds)
        return EngineFacts(*facts)

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        return Answer(*await self._call("generate", prompt_token_ids, options, seed, request_id, seconds=None))

    async def abort(self, request_id: str) -> None:
        await self._call("abort", request_id, seconds=ABORT_SECONDS)

    async def sleep(self, deep: bool) -> None:
        await self._call("sleep", deep, seconds=SWITCH_SECONDS)

    async def wake_up(self) -> None:
        await self._call("wake_up", seconds=SWITCH_SECONDS)

    async def stop(self) -> None:
        """In good order if it can, so that the engine's own processes end with it; by force in any case."""
        actor, self._actor = self._actor, None
        if actor is None:
            return
        with contextlib.suppress(RayError, TimeoutError):
            await asyncio.wait_for(_awaitable(actor.stop.remote()), timeout=STOP_SECONDS)
        await asyncio.to_thread(ray.kill, actor)

    async def _call(self, method: str, *arguments: Any, seconds: float | None) -> Any:
        """Raises EngineDead and RequestInvalid. A caller that is cancelled takes its request back."""
        actor = self._actor
        if actor is None:
            raise EngineDead("it was ended")
        try:
            reference = getattr(actor, method).remote(*arguments)
        except RayError as error:
            raise EngineDead(one_line(error)) from error
        try:
            async with asyncio.timeout(seconds):
                return await _awaitable(reference)
        except TimeoutError as error:
            if seconds is None:  # not ours
                raise
            raise EngineDead(f"{method} took more than {seconds:g} s") from error
        except asyncio.CancelledError:
            with contextlib.suppress(RayError):
                ray.cancel(reference)
            raise
        except RayTaskError as error:
            # Raised anew: Ray's own wrapping puts the actor's whole traceback into the message.
            fault = RequestInvalid if isinstance(error.cause, RequestInvalid) else EngineDead
            raise fault(one_line(error.cause)) from error
        except RayError as error:
            raise EngineDead(one_line(error)) from error


def open_over_engines(
    config: RunConfig, *, sampler: VllmSamplerConfig, replaying: bool, encode: Encode, pool: Pool | None
) -> VllmSampler:
    """The sampler of a run, whose engines are not started yet. Raises PoolError where the cluster has no room.

    Engines run on the cluster of a Ray pool; else on the one that `config.ray.address` names, or on this machine.
    """
    start_ray(config.ray.address)
    engine = config.engine
    sizes = sizes_here(config.ray, replaying=replaying, engines=engine)
    lease = pool.lease if isinstance(pool, RayPool) else None
    engines = open_engines(
        sampler,
        engine,
        num_engines=sizes.num_engines,
        seats=pool.seats() if isinstance(pool, RayPool) and lease is not None else None,
        on_gpu=num_gpus_here() > 0,
    )
    tell = pool.hear if isinstance(pool, RayPool) else None
    return VllmSampler(sampler, engines, encode=encode, max_restarts=engine.max_restarts, lease=lease, tell=tell)


def open_engines(
    config: VllmSamplerConfig,
    engine: EngineConfig,
    *,
    num_engines: int,
    seats: Sequence[Seat] | None,
    on_gpu: bool,
    engine_class: type = EngineActor,
    arguments: Mapping[str, Any] | None = None,
) -> list[RayEngine]:
    """As many as asked for, not started yet. Ray must be up. With `seats` each shares one of them.

    A scripted `engine_class` brings `arguments` of its own.
    """
    if engine.python is not None:
        # The other environment has Ray and vLLM, and need not have us.
        for module in (vllm_engine, sys.modules[__name__]):
            ray.cloudpickle.register_pickle_by_value(module)
    if arguments is None:
        arguments = engine_arguments(config, engine, on_gpu=on_gpu)
    return [
        RayEngine(
            f"engine {number}",
            spawn=partial(
                _spawn,
                engine_class,
                arguments,
                environment=engine_environment(config.model, engine),
                python=engine.python,
                seat=None if seats is None else seats[number],
                num_gpus=engine.tensor_parallel if on_gpu and seats is None else 0,
                max_concurrency=config.concurrency + MORE_CALLS,
            ),
            start_seconds=engine.start_seconds,
        )
        for number in range(num_engines)
    ]


def _spawn(
    engine_class: type,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    python: str | None,
    seat: Seat | None,
    num_gpus: int,
    max_concurrency: int,
) -> ActorHandle:
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": num_gpus, "max_concurrency": max_concurrency}
    if seat is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(seat.node_id, soft=False)
    if python is not None:
        options["runtime_env"] = {"py_executable": python}
    actor = ray.remote(engine_class).options(**options)
    return actor.remote(arguments, visible_gpus=None if seat is None else seat.visible, environment=environment)


def engine_arguments(config: VllmSamplerConfig, engine: EngineConfig, *, on_gpu: bool) -> dict[str, Any]:
    """AsyncEngineArgs' own keywords."""
    shared = engine.placement == "shared"
    arguments: dict[str, Any] = {
        "model": config.model,
        "load_format": engine.load_format,
        "dtype": engine.dtype,
        "tensor_parallel_size": engine.tensor_parallel,
        "enforce_eager": engine.enforce_eager,
        "max_num_seqs": config.concurrency,
        "gpu_memory_utilization": engine.memory_share or (SHARED_SHARE if shared else OWN_SHARE),
        "enable_prefix_caching": True,
        "enable_sleep_mode": shared,
        "disable_log_stats": True,
    }
    if engine.max_model_len is not None:
        arguments["max_model_len"] = engine.max_model_len
    if engine.tensor_parallel > 1:  # inside of an actor vLLM might place its own workers with Ray
        arguments["distributed_executor_backend"] = "mp"
    if not on_gpu:  # vLLM 0.32 on a CPU dies over a prompt in two chunks whose request has a seed
        arguments["enable_chunked_prefill"] = False
    return arguments | engine.arguments


def engine_environment(model: str, engine: EngineConfig) -> dict[str, str]:
    """Variables for the engine's process: nothing is reported to vLLM's makers, nor asked of a hub for a folder.

    FlashInfer's sampler takes no seeds, and every request has one: it would be compiled at a first start for nothing.
    """
    offline = {"HF_HUB_OFFLINE": "1"} if Path(model).is_dir() else {}
    return {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0", **offline, **engine.environment}


async def _awaitable(reference: Any) -> Any:
    """Ray's references are awaitable, and not coroutines."""
    return await reference
