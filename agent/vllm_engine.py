"""One vLLM engine: the only file that imports vLLM, and it does so when an engine is started.

Knows nothing of Ray, prompts' texts, searches or the ledger. It imports nothing of ours and takes and gives plain
values, so that it may run under another Python environment than the rest.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)
_CHECK_SECONDS = 30.0
# Ends what an engine started when the engine's process is gone, however it went: SIGKILL runs no handler, and an orphan
# would hold the GPU's memory. It waits until the pipe from the engine closes. A process is known by id and start time.
_GUARD = """
import os, signal, sys
for line in sys.stdin.readlines():
    pid, began = line.split()
    try:
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19] == began:
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass
"""


class EngineDead(RuntimeError):
    """The engine answers nothing any more; its process must be ended. One line."""


class RequestInvalid(ValueError):
    """The engine takes this one request not, while it serves others. One line."""


class Answer(NamedTuple):
    """What the model said. `token_ids` are the answer's alone; `finish_reason` is vLLM's own word."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None


class EngineFacts(NamedTuple):
    """What an engine that is up says of itself. `gpus` are UUIDs; none where vLLM does not tell them."""

    pid: int
    vllm: str
    max_model_len: int
    detects_repetition: bool
    gpus: tuple[str, ...] = ()


class VllmEngine:
    """Holds one `AsyncLLM`. Calls overlap; `start` comes before all others."""

    def __init__(
        self, arguments: Mapping[str, Any], *, visible_gpus: str | None, environment: Mapping[str, str]
    ) -> None:
        """`arguments` are AsyncEngineArgs' own. `visible_gpus` None leaves the choice of GPUs to the environment."""
        os.environ.update(environment)
        if visible_gpus is not None:  # before anything asks CUDA: Ray hides no GPU from a process that books none
            os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpus
            os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # in which Ray counts them
        self._arguments = dict(arguments)
        self._engine: Any = None
        self._deep = False  # its last sleep
        self._guard: subprocess.Popen[bytes] | None = None

    def pid(self) -> int:
        return os.getpid()

    async def start(self) -> EngineFacts:
        """Loads the model: minutes. Raises EngineDead with the cause."""
        try:
            import vllm
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments))
            self._guard = guard_over(os.getpid())
            context = int(self._engine.model_config.max_model_len)
            gpus = gpu_uuids(int(self._arguments.get("tensor_parallel_size", 1)))
            return EngineFacts(os.getpid(), vllm.__version__, context, repetition_class() is not None, gpus)
        except Exception as error:  # noqa: BLE001  vLLM's own types do not pickle to where it is not installed
            raise EngineDead(f"did not start: {one_line(error)}") from None

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        """One completion, whose finish reason is "error" where vLLM failed over it and lives on.

        `options` are SamplingParams' own and hold max_tokens. Raises EngineDead, RequestInvalid.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        last: Any = None
        try:
            params = SamplingParams(
                n=1, seed=seed, output_kind=RequestOutputKind.FINAL_ONLY, **sampling_options(options)
            )
            async for output in self._engine.generate(
                {"prompt_token_ids": prompt_token_ids}, params, request_id=request_id
            ):
                last = output
        except EngineDeadError as error:
            raise EngineDead(one_line(error)) from None
        except EngineGenerateError as error:  # vLLM's own fault, and no bad request
            if self._engine.errored:
                raise EngineDead(one_line(error.__cause__ or error)) from None
            _log.warning("request_failed: %s: %s", request_id, one_line(error.__cause__ or error))
            return Answer("", (), "error")
        except Exception as error:  # noqa: BLE001  vLLM's types for a bad request differ from version to version
            fault = EngineDead if self._engine.errored else RequestInvalid
            raise fault(one_line(error)) from None
        if last is None:
            raise EngineDead(f"request {request_id} ended without an answer")
        (choice,) = last.outputs
        return Answer(choice.text, tuple(choice.token_ids), choice.finish_reason)

    async def abort(self, request_id: str) -> None:
        """Takes a request back, if it still is one. Raises EngineDead.

        vLLM's own `abort` only leaves word. So its core is asked something besides, which it answers between two steps.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._engine.abort(request_id)
            await self._engine.is_sleeping()
        except EngineDeadError as error:
            raise EngineDead(one_line(error)) from None

    async def check(self) -> None:
        """Raises EngineDead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._engine.check_health()
        except (EngineDeadError, TimeoutError) as error:
            raise EngineDead(one_line(error)) from None

    async def sleep(self, deep: bool) -> None:
        """Keeps off the GPU, from the end of the step that it is in. `deep`: weights go to host memory and what was
        cached is dropped; nothing may be in flight. Else requests and memory stay as they are. Raises EngineDead."""
        self._deep = deep
        if deep:
            await self._switched(self._engine.sleep(level=1))
        else:
            await self._switched(self._engine.sleep(level=0, mode="keep"))

    async def wake_up(self) -> None:
        """Raises EngineDead where it did not come back well."""
        await self._switched(self._engine.wake_up(tags=None if self._deep else ["scheduling"]))
        await self.check()

    async def _switched(self, work: Coroutine[Any, Any, None]) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await work
        except EngineDeadError as error:
            raise EngineDead(one_line(error)) from None

    async def stop(self) -> None:
        """Ends the engine's processes."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None


def sampling_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """SamplingParams' keywords. `repetition_detection` becomes vLLM's record, and is left out where this vLLM has none:
    `EngineFacts.detects_repetition` says so, for whoever asked for it."""
    plain = dict(options)
    repetition, record = plain.pop("repetition_detection", None), repetition_class()
    if repetition is not None and record is not None:
        plain["repetition_detection"] = record(**repetition)
    return plain


def gpu_uuids(num_gpus: int) -> tuple[str, ...]:
    """Of the first GPUs that this process may see; () on a CPU, or where vLLM's platform cannot say."""
    from vllm.platforms import current_platform

    try:
        return tuple(str(current_platform.get_device_uuid(number)) for number in range(num_gpus))
    except Exception:  # noqa: BLE001  every platform has its own way not to have it
        return ()


def repetition_class() -> Any:
    """vLLM's record of how repetition is detected; None in versions without it."""
    from vllm import sampling_params

    return getattr(sampling_params, "RepetitionDetectionParams", None)


def guard_over(pid: int) -> subprocess.Popen[bytes]:
    """A process that outlives this one by an instant, and then ends what are now the descendants of `pid`."""
    descendants = children_of(pid)
    guard = subprocess.Popen([sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, start_new_session=True)
    assert guard.stdin is not None
    for child in descendants:
        if (stat := stat_of(child)) is not None:
            guard.stdin.write(f"{child} {stat[19]}\n".encode())
    guard.stdin.flush()
    return guard


def children_of(pid: int) -> list[int]:
    """Ids of the processes that `pid` started, and of those that they started."""
    stats = {int(folder.name): stat_of(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    parents = {child: int(stat[1]) for child, stat in stats.items() if stat is not None}
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        mine = [child for child, its_parent in parents.items() if its_parent == parent]
        found += mine
        todo += mine
    return found


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5)); None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
