"""Completions from vLLM engines of the run's own: spreads requests over them, and outlives the ones that die.

Knows nothing of how an engine is held: neither Ray nor vLLM is loaded here. Tokens of a request whose engine died are
charged to nobody; the answer that comes in the end is, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.faults import Fault, FaultKind, Tell
from agent.gpu_lease import GpuLease, LeaseBroken, Turn
from agent.request_clocks import RequestClocks
from agent.sampler import Completion, PromptRefused, SampleRequest, SamplerError, SamplerRefused
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import Answer, EngineDead, EngineFacts, RequestInvalid

log = logging.getLogger(__name__)

MAX_UNANSWERED = 3  # times that a living engine gives a request up before it is an error
MAX_DEATHS = 3  # of engines that had a request in hand, and
MAX_LATE = 3  # times that no answer to it came in time, before it goes without one
SUSPECT_DEATHS = MAX_DEATHS - 1  # from which on requests are asked one at a time: those with the culprit are spared
# How vLLM words a prompt that is too long, in the versions that are supported.
TOO_LONG = re.compile(r"context length|maximum model length|max_model_len|longer than", re.IGNORECASE)
NO_ANSWER = (None, "abort", "error")  # finish reasons: what the engine gave up is no completion

Encode = Callable[[str], Sequence[int]]


class RequestLate(RuntimeError):
    """A living engine gave no answer in time, and has taken the request back. One line."""


class Engine(Protocol):
    """One engine, which can be started again after it died. Calls overlap."""

    @property
    def name(self) -> str: ...

    async def start(self) -> EngineFacts:
        """From nothing; what is left of an earlier one is ended first. Raises EngineDead."""
        ...

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        """Raises EngineDead and RequestInvalid."""
        ...

    async def abort(self, request_id: str) -> None:
        """Takes a request back, and comes back when the engine has said that it lives. Raises EngineDead."""
        ...

    async def sleep(self, deep: bool) -> None:
        """Keeps off the GPU. `deep`: frees its memory, and nothing is in flight; else requests stay where they are.
        Raises EngineDead."""
        ...

    async def wake_up(self) -> None:
        """Raises EngineDead."""
        ...

    async def stop(self) -> None: ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """An engine and how it stands. `life` counts its starts, so that a death that many notice is told once."""

    engine: Engine
    facts: EngineFacts | None = None  # None: not up
    life: int = 0
    num_deaths: int = 0
    num_open: int = 0
    has_suspect: bool = False  # of its open requests
    gpus: tuple[str, ...] = ()  # where it was up last
    given_up: bool = False
    asleep: bool = False
    starting: asyncio.Task[None] | None = field(default=None)
    stopping: asyncio.Task[None] | None = field(default=None)


class VllmSampler:
    """At most `config.concurrency` requests on each engine; who finds none free waits.

    A dead engine is started again, `max_restarts` times in all, while its requests go to others or wait. Without any
    engine left there is SamplerError with the last cause. An engine that does not come up the first time is given up
    at once: it would not the next time.

    A request that MAX_DEATHS engines died over, or that got no answer in time MAX_LATE times, is refused: others go on.
    Before the last of those deaths it is asked with no other one like it beside it. A late request is taken back from
    its engine; one that does not even answer that is dead.
    """

    def __init__(
        self,
        config: VllmSamplerConfig,
        engines: Sequence[Engine],
        *,
        encode: Encode,
        max_restarts: int,
        lease: GpuLease | None,
        tell: Tell | None = None,
    ) -> None:
        """`encode` makes a prompt's token ids. With a `lease` the engines share their GPUs and sleep when it says.
        `tell` hears of engines that died."""
        self._config = config
        self._encode = encode
        self._max_restarts = max_restarts
        self._lease = lease
        self._tell_fault = tell
        self._places = [_Place(engine=engine) for engine in engines]
        self._clocks = RequestClocks()
        self._changed = asyncio.Event()  # set for an instant whenever a place may have become free
        self._begun = self._closed = False
        self._last_cause = "no engine was started"
        if lease is not None:
            lease.attach(sleep=self._sleep, wake_up=self._wake_up)

    @property
    def num_slots(self) -> int:
        """How many requests are worked on at once."""
        return self._config.concurrency * len(self._places)

    @property
    def num_deaths(self) -> int:
        """Of engines, so far."""
        return sum(place.num_deaths for place in self._places)

    async def wait_until_up(self) -> list[EngineFacts]:
        """Starts all engines, some minutes, and gives those that came up. Raises SamplerError if none did."""
        self._begin()
        await asyncio.gather(*(place.starting for place in self._places if place.starting is not None))
        facts = [place.facts for place in self._places if place.facts is not None]
        if not facts:
            raise SamplerError(f"no vLLM engine came up: {self._last_cause}")
        return facts

    async def sample(self, request: SampleRequest) -> Completion:
        return await self.sample_under(request, config=self._config)

    async def sample_under(self, request: SampleRequest, *, config: VllmSamplerConfig) -> Completion:
        self._begin()
        token_ids = list(self._encode(request.prompt))
        self._check_length(len(token_ids), max_tokens=config.max_tokens)
        temperature = config.temperature_of(request.proposal.operator)
        options = {**generation_options(config), "temperature": temperature}
        num_unanswered = num_late = num_deaths = 0
        while True:
            try:
                suspect = num_deaths >= SUSPECT_DEATHS
                answer = await self._asked(token_ids, request=request, options=options, suspect=suspect)
            except EngineDead as error:
                num_deaths += 1
                if num_deaths == MAX_DEATHS:
                    told = f"vLLM: {num_deaths} engines died over this request, the last one of {error}"
                    raise PromptRefused(told) from error
                continue
            except RequestLate as error:
                num_late += 1
                if num_late == MAX_LATE:
                    told = f"vLLM: {error}, {num_late} times; raise sampler.timeout_seconds or lower sampler.max_tokens"
                    raise PromptRefused(told) from error
                continue
            if answer is None:
                continue
            if answer.finish_reason not in NO_ANSWER:
                return Completion(
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    prompt_tokens=len(token_ids),
                    completion_tokens=len(answer.token_ids),
                    token_ids=answer.token_ids,
                    sampler=f"vllm {self._config.model}",
                )
            num_unanswered += 1
            if num_unanswered == MAX_UNANSWERED:
                raise SamplerError(f"vLLM gave a request up {num_unanswered} times, last: {answer.finish_reason}")

    def _check_length(self, num_tokens: int, *, max_tokens: int) -> None:
        """Raises PromptRefused where prompt and answer do not fit together; what no engine has said yet is let pass."""
        lengths = [place.facts.max_model_len for place in self._places if place.facts is not None]
        if lengths and num_tokens + max_tokens > min(lengths):
            told = f"a prompt of {num_tokens} tokens and an answer of {max_tokens}"
            raise PromptRefused(
                f"vLLM: {told} are more than the model's context of {min(lengths)}; lower sampler.max_tokens or "
                "sampler.prompt_tokens, or raise engine.max_model_len if the model can read more"
            )

    async def close(self) -> None:
        self._closed = True
        starting = [place.starting for place in self._places if place.starting is not None]
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(place.engine.stop() for place in self._places))
        self._tell()

    async def _asked(
        self, token_ids: list[int], *, request: SampleRequest, options: Mapping[str, Any], suspect: bool
    ) -> Answer | None:
        """An engine's answer, or None where it died before it was asked.

        Raises EngineDead where it died over it, RequestLate, PromptRefused, SamplerRefused, SamplerError.
        """
        place = await self._free_place(suspect=suspect)
        place.num_open += 1
        place.has_suspect |= suspect
        # A request that is asked again is another one for the engine, which may still hold the first.
        request_id = f"{request.problem.id}/{request.proposal.id}/{uuid.uuid4().hex[:8]}"
        try:
            async with self._generating():
                if place.facts is None:  # it died while the GPU was somebody else's
                    return None
                life = place.life
                try:
                    return await self._in_time(place, token_ids, options, request.seed, request_id)
                except EngineDead as error:
                    self._died(place, life=life, cause=str(error))
                    if self._lease is not None and self._lease.turn is not Turn.GENERATE:
                        return None  # it died of falling asleep or waking, or asleep: no request is to blame
                    raise
        except RequestInvalid as error:
            if TOO_LONG.search(str(error)):
                raise PromptRefused(f"vLLM: {error}; lower sampler.prompt_tokens or sampler.max_tokens") from error
            raise SamplerRefused(f"vLLM: {error}") from error
        except LeaseBroken as error:
            raise SamplerError(f"vLLM: {error}") from error
        finally:
            place.num_open -= 1
            if suspect:
                place.has_suspect = False
            self._tell()

    async def _in_time(
        self, place: _Place, token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        """Raises RequestLate where the engine lives on, EngineDead where it does not."""
        try:
            async with self._clocks.limit(self._config.timeout_seconds):
                return await place.engine.generate(token_ids, options, seed, request_id)
        except TimeoutError:
            late = f"no answer within {self._config.timeout_seconds:g} s"
        try:
            await place.engine.abort(request_id)
        except EngineDead as error:
            raise EngineDead(f"{late}, and then: {error}") from error
        log.warning("request_late: %s: %s: %s", place.engine.name, request_id, late)
        raise RequestLate(late)

    def _generating(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Never held while waiting for an engine: one that is being started waits for the same turn."""
        return contextlib.nullcontext() if self._lease is None else self._lease.generating()

    async def _free_place(self, *, suspect: bool) -> _Place:
        """The engine with the fewest requests, for a suspect one that has no other.

        Raises SamplerError where none is left to wait for.
        """
        while True:
            if self._closed:
                raise SamplerError("the sampler is closed")
            if free := [place for place in self._free() if not (suspect and place.has_suspect)]:
                return min(free, key=lambda place: place.num_open)
            if all(place.given_up for place in self._places):
                raise SamplerError(f"no vLLM engine is left: {self._last_cause}")
            await self._changed.wait()

    def _free(self) -> list[_Place]:
        most = self._config.concurrency
        return [place for place in self._places if place.facts is not None and place.num_open < most]

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for place in self._places:
                place.starting = asyncio.create_task(self._start(place))

    def _died(self, place: _Place, *, life: int, cause: str) -> None:
        """Takes the engine out of service and has it started again; all but the first to tell are not heard."""
        if place.life != life or place.facts is None or self._closed:
            return
        place.facts, place.asleep = None, False
        place.num_deaths += 1
        place.given_up = place.num_deaths > self._max_restarts
        self._last_cause = f"{place.engine.name}: {cause}"
        log.warning("engine_died: %s, death %d: %s", place.engine.name, place.num_deaths, cause)
        self._tell_death(place)
        place.starting = asyncio.create_task(self._start(place) if not place.given_up else self._stop(place))
        self._tell()

    def _tell_death(self, place: _Place) -> None:
        if self._tell_fault is not None:
            kind = FaultKind.ENGINE_GIVEN_UP if place.given_up else FaultKind.ENGINE_DIED
            self._tell_fault(Fault(kind=kind, gpus=place.gpus, reason=self._last_cause))

    async def _start(self, place: _Place) -> None:
        """Until it is up or given up: whatever goes wrong, nobody may wait for it for ever."""
        try:
            await self._start_until_up(place)
        except Exception as error:
            place.given_up = True
            self._last_cause = f"{place.engine.name}: {type(error).__name__}: {error}"
            log.exception("engine_start_is_at_fault: %s", place.engine.name)
        finally:
            self._tell()

    async def _start_until_up(self, place: _Place) -> None:
        while place.facts is None and not place.given_up:
            await self._stop(place)  # at once: what is left of a dead engine holds its GPU
            try:
                async with contextlib.nullcontext() if self._lease is None else self._lease.starting():
                    place.facts = await place.engine.start()
            except EngineDead as error:
                place.num_deaths += 1
                self._last_cause = f"{place.engine.name}: {error}"
                log.warning("engine_not_started: %s: %s", place.engine.name, error)
                place.given_up = place.life == 0 or place.num_deaths > self._max_restarts
                self._tell_death(place)
            else:
                place.life += 1
                place.gpus = place.facts.gpus
                log.info("engine_up: %s: %s", place.engine.name, place.facts)
                if self._config.repetition is not None and not place.facts.detects_repetition:
                    log.warning("engine_without_repetition_detection: answers that repeat themselves run to max_tokens")

    async def _stop(self, place: _Place) -> None:
        """What is left of a dead engine may compute until then, and nothing is timed meanwhile."""
        place.stopping = asyncio.create_task(place.engine.stop())
        try:
            await place.stopping
        finally:
            place.stopping = None

    async def _sleep(self, deep: bool) -> None:
        self._clocks.stop()
        try:
            await asyncio.gather(*(place.stopping for place in self._places if place.stopping is not None))
            await asyncio.gather(
                *(self._switched(place, place.engine.sleep(deep), asleep=True) for place in self._up())
            )
        except BaseException:
            self._clocks.start()
            raise

    async def _wake_up(self) -> None:
        sleeping = [place for place in self._up() if place.asleep]
        try:
            await asyncio.gather(*(self._switched(place, place.engine.wake_up(), asleep=False) for place in sleeping))
        finally:
            self._clocks.start()

    async def _switched(self, place: _Place, work: Coroutine[Any, Any, None], *, asleep: bool) -> None:
        """An engine that dies of it is ended, which frees its GPU as well, and started again."""
        life = place.life
        try:
            await work
            place.asleep = asleep
        except EngineDead as error:
            await place.engine.stop()
            self._died(place, life=life, cause=str(error))

    def _up(self) -> list[_Place]:
        return [place for place in self._places if place.facts is not None]

    def _tell(self) -> None:
        self._changed.set()
        self._changed.clear()


def generation_options(config: VllmSamplerConfig) -> dict[str, Any]:
    """SamplingParams' own keywords, without seed and temperature, which are each request's."""
    options: dict[str, Any] = {
        "top_p": config.top_p,
        "top_k": config.top_k,
        "max_tokens": config.max_tokens,
    }
    if config.stop:
        options["stop"] = list(config.stop)
    if config.repetition is not None:
        options["repetition_detection"] = config.repetition.model_dump()
    return options
