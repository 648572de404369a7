"""Engines and judges on one GPU: they never use it at once, and turns are few."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.gpu_lease import GpuLease, LeaseBroken, Turn
from agent.sampler import PromptRefused, SampleRequest, SamplerError
from agent.sampler_config import VllmSamplerConfig
from agent.vllm_engine import Answer, EngineDead, EngineFacts
from agent.vllm_sampler import VllmSampler
from sandbox.types import Operator, Problem, Proposal

SOON = 0.02


@dataclass
class Scene:
    """A lease, and who uses the GPU. `events` has each turn that was passed."""

    lease: GpuLease
    events: list[str] = field(default_factory=list)
    generating: int = 0
    timing: int = 0
    num_timed: int = 0
    freezes: bool = False
    frozen: asyncio.Event = field(default_factory=asyncio.Event)  # set: not frozen

    def __post_init__(self) -> None:
        self.frozen.set()
        self.lease.attach(sleep=self.told("sleep"), wake_up=self.told("wake_up"))

    def told(self, event: str) -> Callable[..., Awaitable[None]]:
        async def switch(deep: bool = True) -> None:
            assert self.timing == 0 and (self.generating == 0 or self.freezes)
            self.frozen.clear() if event == "sleep" else self.frozen.set()
            await asyncio.sleep(0.001)
            assert self.generating == 0 or not deep or event == "wake_up"
            self.events.append(event if deep else f"light {event}")

        return switch

    async def generate(self, work: float | asyncio.Event) -> None:
        """For so many seconds, or until the event."""
        async with self.lease.generating():
            self.generating += 1
            try:
                assert self.timing == 0
                await (work.wait() if isinstance(work, asyncio.Event) else asyncio.sleep(work))
                await self.frozen.wait()
                assert self.timing == 0
            finally:
                self.generating -= 1

    async def time(self, seconds: float = 0.001, *, whole: bool = False) -> None:
        async with self.lease.timing(whole=whole):
            self.timing += 1
            assert self.generating == 0 or (self.freezes and not whole)
            await asyncio.sleep(seconds)
            assert self.generating == 0 or (self.freezes and not whole)
            self.timing -= 1
            self.num_timed += 1


def scene(
    *, batch: int = 4, patience_seconds: float = 60.0, idle_seconds: float = SOON, freezes: bool = False
) -> Scene:
    lease = GpuLease(batch=batch, patience_seconds=patience_seconds, idle_seconds=idle_seconds, freezes=freezes)
    return Scene(lease, freezes=freezes)


def test_candidates_are_timed_in_batches_while_engines_are_busy() -> None:
    async def work() -> Scene:
        on = scene()
        busy = [asyncio.create_task(generate_on_and_on(on)) for _ in range(5)]
        await asyncio.sleep(SOON)
        waiting = [asyncio.create_task(on.time()) for _ in range(3)]
        await asyncio.sleep(5 * SOON)
        assert on.events == [], "three are no batch"
        await asyncio.gather(*waiting, *(on.time() for _ in range(5)))
        await asyncio.sleep(SOON)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        return on

    on = asyncio.run(work())
    assert on.num_timed == 8
    assert on.events == ["sleep", "wake_up"], "one turn for all"


async def generate_on_and_on(on: Scene) -> None:
    while True:
        await on.generate(0.002)


def test_idle_engines_give_way_to_a_single_candidate_and_wake_when_they_are_wanted() -> None:
    async def work() -> Scene:
        on = scene()
        await on.generate(0.001)
        await on.time()
        await on.time()
        assert on.events == ["sleep"], "nobody wants to generate, so nobody is woken"
        assert on.lease.turn is Turn.TIME
        await on.generate(0.001)
        return on

    assert asyncio.run(work()).events == ["sleep", "wake_up"]


def test_the_instant_between_two_answers_puts_no_engine_to_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle counts from the end of an answer, however long ago it was begun."""

    async def work() -> Scene:
        on = scene(idle_seconds=10.0)
        first, waiting = asyncio.create_task(on.generate(SOON)), asyncio.create_task(on.time())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        clock = loop.time
        monkeypatch.setattr(loop, "time", lambda: clock() + 30.0)  # the answer takes long, less than patience
        await first
        await on.generate(SOON)
        assert on.events == []
        waiting.cancel()
        return on

    assert asyncio.run(work()).num_timed == 0


def test_patience_has_an_end_while_engines_are_busy() -> None:
    async def work() -> Scene:
        on = scene(patience_seconds=3 * SOON)
        busy = asyncio.create_task(generate_on_and_on(on))
        await asyncio.sleep(SOON)
        async with asyncio.timeout(10):
            await on.time()
        busy.cancel()
        return on

    assert asyncio.run(work()).num_timed == 1


def test_who_gives_up_waiting_holds_nobody_up() -> None:
    async def work() -> Scene:
        on = scene(batch=1)
        long = asyncio.create_task(on.generate(5 * SOON))
        await asyncio.sleep(0)
        given_up = [asyncio.create_task(on.time()), asyncio.create_task(on.generate(SOON))]
        await asyncio.sleep(SOON)
        for task in given_up:
            task.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(long, *(on.generate(0.001) for _ in range(3)), on.time())
        return on

    assert asyncio.run(work()).num_timed == 1


@pytest.mark.parametrize("at_fault", ["sleep", "wake_up"])
def test_a_switch_that_fails_in_a_new_way_is_told_to_all_who_wait_and_who_come_later(at_fault: str) -> None:
    async def work() -> None:
        on = scene(batch=1)

        async def fail(*_: bool) -> None:
            raise OSError("no such device")

        on.lease.attach(**{"sleep": on.told("sleep"), "wake_up": on.told("wake_up"), at_fault: fail})
        async with asyncio.timeout(10):
            if at_fault == "wake_up":
                await on.time()
            asking = [on.generate(0.001), on.generate(0.001)] if at_fault == "wake_up" else [on.time(), on.time()]
            later = [on.generate(0.001), on.time()]
            for error in [
                *await asyncio.gather(*asking, return_exceptions=True),
                *await asyncio.gather(*later, return_exceptions=True),
            ]:
                assert isinstance(error, LeaseBroken)
                assert "OSError: no such device" in str(error)
        assert on.lease.turn is Turn.BROKEN

    asyncio.run(work())


def test_an_engine_starts_while_nothing_is_checked_and_nothing_is_timed() -> None:
    async def work() -> list[str]:
        on, order = scene(batch=1), list[str]()

        async def check(name: str, seconds: float) -> None:
            async with on.lease.checking():
                order.append(f"{name} begins")
                await asyncio.sleep(seconds)
            order.append(f"{name} ends")

        async def start() -> None:
            async with on.lease.starting():
                order.append("start begins")
                await asyncio.sleep(SOON)
                assert on.timing == 0
            order.append("start ends")

        async with asyncio.timeout(10):
            first = asyncio.create_task(check("first", SOON))
            await asyncio.sleep(0)
            starting = asyncio.create_task(start())
            await asyncio.sleep(0)
            await asyncio.gather(first, starting, check("second", 0.0), on.time(), check("third", 0.0))
        return order

    order = asyncio.run(work())
    assert order[:4] == ["first begins", "first ends", "start begins", "start ends"]
    assert sorted(order[4:]) == ["second begins", "second ends", "third begins", "third ends"]


def test_a_start_that_never_gets_its_turn_holds_no_check_up() -> None:
    async def work() -> None:
        on = scene(batch=1)

        async def fail(*_: bool) -> None:
            raise OSError("no such device")

        on.lease.attach(sleep=on.told("sleep"), wake_up=fail)
        async with asyncio.timeout(10):
            await on.time()
            with pytest.raises(LeaseBroken):
                async with on.lease.starting():
                    raise AssertionError("the lease is broken")
            async with on.lease.checking():
                pass

    asyncio.run(work())


def test_the_time_of_every_turn_is_known() -> None:
    async def work() -> dict[Turn, float]:
        clock = asyncio.get_running_loop().time
        on = scene(idle_seconds=0.0)
        assert sum(on.lease.seconds.values()) == 0.0
        before = clock()
        async with on.lease.generating():
            in_the_first = clock()
            await asyncio.sleep(SOON)
        await on.time(2 * SOON)
        await on.generate(3 * SOON)
        at_the_end = clock()
        seconds = on.lease.seconds
        assert at_the_end - in_the_first - 1e-6 <= sum(seconds.values()) <= clock() - before + 1e-6
        return seconds

    seconds = asyncio.run(work())
    assert seconds[Turn.TIME] >= 2 * SOON
    assert seconds[Turn.GENERATE] >= 4 * SOON
    assert seconds[Turn.SLEEP] > 0 and seconds[Turn.WAKE] > 0


def test_requests_in_flight_are_frozen_where_engines_can_be() -> None:
    async def work() -> Scene:
        on = scene(batch=2, freezes=True)
        done = asyncio.Event()
        long = [asyncio.create_task(on.generate(done)) for _ in range(3)]
        await asyncio.sleep(SOON)
        async with asyncio.timeout(10):
            await asyncio.gather(on.time(), on.time())
            assert on.generating == 3, "none had to finish"
            done.set()
            await asyncio.gather(*long)
            await on.generate(0.001)
        return on

    on = asyncio.run(work())
    assert on.events == ["light sleep", "wake_up"], "woken for those in flight, though nobody asked anew"


def test_who_needs_the_whole_gpu_waits_for_idle_engines_or_for_its_patience_to_end() -> None:
    async def work(*, patience_seconds: float) -> list[str]:
        on = scene(batch=2, patience_seconds=patience_seconds, freezes=True)
        busy = asyncio.create_task(generate_on_and_on(on))
        await asyncio.sleep(SOON)
        whole = asyncio.create_task(on.time(whole=True))
        async with asyncio.timeout(10):
            await asyncio.gather(on.time(), on.time())
            if patience_seconds > 10:
                await asyncio.sleep(3 * SOON)
                assert not whole.done()
                busy.cancel()
            await whole
        busy.cancel()
        return on.events

    for patience_seconds in (60.0, 5 * SOON):
        events = asyncio.run(work(patience_seconds=patience_seconds))
        assert events[:2] == ["light sleep", "wake_up"]
        assert "sleep" in events


def test_those_who_need_the_whole_gpu_make_a_batch() -> None:
    async def work() -> Scene:
        on = scene(batch=2, freezes=True)
        busy = asyncio.create_task(generate_on_and_on(on))
        await asyncio.sleep(SOON)
        async with asyncio.timeout(10):
            await asyncio.gather(on.time(whole=True), on.time(whole=True))
        busy.cancel()
        return on

    assert asyncio.run(work()).events[0] == "sleep"


def test_a_start_let_in_as_the_engines_wake_is_not_timed_over() -> None:
    async def work() -> Scene:
        on = scene(batch=1, freezes=True)

        async def start() -> None:
            async with on.lease.starting():
                for _ in range(20):
                    await asyncio.sleep(0.001)
                    assert on.timing == 0 and on.lease.turn is Turn.GENERATE

        async with asyncio.timeout(10):
            await on.time()
            starting = asyncio.create_task(start())
            while on.lease.turn is not Turn.WAKE:
                await asyncio.sleep(0)
            await asyncio.gather(starting, on.time())
        return on

    assert asyncio.run(work()).num_timed == 2


def test_a_start_is_not_frozen() -> None:
    async def work() -> None:
        on = scene(batch=1, freezes=True)

        async def start() -> None:
            async with on.lease.starting():
                await asyncio.sleep(SOON)
                assert on.events == [] and on.timing == 0

        async with asyncio.timeout(10):
            starting = asyncio.create_task(start())
            await asyncio.sleep(0)
            await asyncio.gather(starting, on.time())
        assert on.events == ["light sleep"]

    asyncio.run(work())


@dataclass
class TwinEngine:
    """Dies when it is woken for the first time, or over a request of `fatal` tokens."""

    on: Scene
    name: str = "engine 0"
    asleep: bool = False
    num_starts: int = 0
    num_wakings: int = 0

    async def start(self) -> EngineFacts:
        self.num_starts += 1
        self.asleep = False
        return EngineFacts(1, "twin", 1000, True)

    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        assert not self.asleep and self.on.timing == 0
        await asyncio.sleep(0.002)
        return Answer("text", (1, 2), "stop")

    async def abort(self, request_id: str) -> None: ...

    async def sleep(self, deep: bool) -> None:
        self.asleep = True

    async def wake_up(self) -> None:
        self.num_wakings += 1
        if self.num_wakings == 1:
            raise EngineDead("CUDA out of memory")
        self.asleep = False

    async def stop(self) -> None: ...


def test_a_sampler_sleeps_while_candidates_are_timed_and_outlives_a_failed_waking() -> None:
    async def work() -> tuple[TwinEngine, Scene]:
        on = scene(batch=2)
        engine = TwinEngine(on)
        config = VllmSamplerConfig(kind="vllm", model="m", max_tokens=8)
        sampler = VllmSampler(config, [engine], encode=lambda text: (1,), max_restarts=2, lease=on.lease)
        async with asyncio.timeout(10):
            for _ in range(3):
                answers = [sampler.sample(request(number)) for number in range(6)]
                done = await asyncio.gather(*answers, on.time(), on.time())
                assert [completion.text for completion in done[:6] if completion is not None] == ["text"] * 6
        await sampler.close()
        return engine, on

    engine, on = asyncio.run(work())
    assert on.num_timed == 6
    assert engine.num_starts == 2, "the first waking killed it"


class FreezingEngine(TwinEngine):
    async def generate(
        self, prompt_token_ids: list[int], options: Mapping[str, Any], seed: int, request_id: str
    ) -> Answer:
        self.on.generating += 1
        await asyncio.sleep(SOON)
        await self.on.frozen.wait()
        self.on.generating -= 1
        return Answer("text", (1, 2), "stop")

    async def sleep(self, deep: bool) -> None:
        assert not deep
        self.on.frozen.clear()

    async def wake_up(self) -> None:
        self.on.frozen.set()


def test_a_request_is_no_later_for_having_been_frozen() -> None:
    async def work() -> Scene:
        on = scene(batch=1, freezes=True)
        config = VllmSamplerConfig(kind="vllm", model="m", max_tokens=8, timeout_seconds=10 * SOON)
        sampler = VllmSampler(config, [FreezingEngine(on)], encode=lambda text: (1,), max_restarts=2, lease=on.lease)
        async with asyncio.timeout(20):
            await sampler.wait_until_up()
            asked = asyncio.create_task(sampler.sample(request(0)))
            await asyncio.sleep(SOON / 2)
            await on.time(15 * SOON)
            assert (await asked).text == "text"
            slow = asyncio.create_task(sampler.sample(request(1)))
            await asyncio.sleep(SOON / 2)
            on.frozen.clear()  # by nobody's turn: its clock goes on
            with pytest.raises(PromptRefused, match="no answer within"):
                await slow
        await sampler.close()
        return on

    assert asyncio.run(work()).num_timed == 1


class UnwakableEngine(TwinEngine):
    async def wake_up(self) -> None:
        raise OSError("no such device")


def test_who_samples_while_no_engine_can_be_woken_is_told_why() -> None:
    async def work() -> None:
        on = scene(batch=1)
        config = VllmSamplerConfig(kind="vllm", model="m", max_tokens=8)
        sampler = VllmSampler(config, [UnwakableEngine(on)], encode=lambda text: (1,), max_restarts=2, lease=on.lease)
        async with asyncio.timeout(10):
            await sampler.sample(request(0))
            await on.time()
            for number in (1, 2):
                with pytest.raises(SamplerError, match="OSError: no such device"):
                    await sampler.sample(request(number))
            await sampler.close()

    asyncio.run(work())


class FaultyEngine(TwinEngine):
    async def start(self) -> EngineFacts:
        raise OSError("no such device")


def test_who_waits_for_an_engine_whose_start_fails_in_a_new_way_is_told() -> None:
    async def work() -> None:
        config = VllmSamplerConfig(kind="vllm", model="m", max_tokens=8)
        sampler = VllmSampler(config, [FaultyEngine(scene())], encode=lambda text: (1,), max_restarts=2, lease=None)
        async with asyncio.timeout(10):
            with pytest.raises(SamplerError, match="engine 0: OSError: no such device"):
                await sampler.sample(request(0))
            await sampler.close()

    asyncio.run(work())


def request(number: int) -> SampleRequest:
    return SampleRequest(
        problem=Problem(id="p", source="class Model: ...", origin="test"),
        proposal=Proposal(id=f"p{number}", operator=Operator.DRAFT),
        ordinal=number,
        prompt="a prompt",
        parents=(),
        seed=number,
    )
