"""Who has the GPUs that engines and judges share: by turns engines generate, or candidates are timed.

Knows nothing of Ray, vLLM or verdicts. One lease stands for all shared GPUs of a run, since a batch of candidates is
timed on all of them at once. See docs/decisions/006-engines-and-judges-on-one-gpu.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from functools import partial

log = logging.getLogger(__name__)

# Between two answers of one strategy the engines have nothing to do for an instant; that is no reason to put them to
# sleep, which takes seconds.
IDLE_SECONDS = 1.0


class LeaseBroken(RuntimeError):
    """The turn could not be passed, so nobody knows what is on the GPUs: nobody gets them any more."""


class Turn(StrEnum):
    """Whose turn it is, or is about to be."""

    GENERATE = "generate"
    DRAIN = "drain"  # no new request is let in, and those let in finish, unless they are frozen
    SLEEP = "sleep"
    TIME = "time"
    WAKE = "wake"
    BROKEN = "broken"  # nobody's, for good


class GpuLease:
    """Both sides ask before they use a GPU, and hold what they were given for one request, one start or one timing.

    Timing gets its turn when `batch` candidates wait, when one has waited `patience_seconds`, or when the engines are
    idle. What comes to be timed meanwhile is timed in the same turn: candidates come from engines, so it dries up. The
    turn goes back when somebody wants to generate and nobody is left to be timed. If engines cannot be put to
    sleep or woken, whoever waits or asks later gets LeaseBroken with the cause.

    A sleep is light or deep. Light: requests in flight stay in the engine, frozen, and so does its memory. Deep: they
    finish first, and the memory is free. With `freezes` turns are light, but where somebody who needs the whole GPU has
    waited `patience_seconds` or the engines are idle; without, all are deep.

    What is checked beside generating engines asks too, but for one thing alone: an engine that starts reckons its
    memory from what is free, and fails where somebody gives some back meanwhile (vLLM). So the two keep apart.
    """

    def __init__(
        self, *, batch: int, patience_seconds: float, freezes: bool = False, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._batch = batch
        self._freezes = freezes
        self._deep = not freezes  # this turn of timing, or the next
        self._patience_seconds = patience_seconds
        self._idle_seconds = idle_seconds
        self._turn = Turn.GENERATE
        self._changed = asyncio.Event()  # set for an instant whenever somebody may go on
        self._generating = self._to_generate = self._timing = self._to_time = 0
        self._to_time_whole = 0  # of `_to_time`: those that need the memory too
        self._checking = self._starting = 0  # the latter: also those that wait for it
        self._in_start = 0  # of `_generating`: starts, which cannot be frozen
        self._timing_asked_at = self._whole_asked_at = 0.0
        self._idle_since = 0.0  # the last answer's end
        self._sleep: Callable[[bool], Awaitable[None]] | None = None
        self._wake_up: Callable[[], Awaitable[None]] | None = None
        self._switching: asyncio.Task[None] | None = None
        self._fault: Exception | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._spent = dict.fromkeys(Turn, 0.0)
        self._turn_since: float | None = None  # None until somebody asks

    def attach(self, *, sleep: Callable[[bool], Awaitable[None]], wake_up: Callable[[], Awaitable[None]]) -> None:
        """What frees the GPUs, told whether the sleep is deep, and what takes them back. What either raises breaks the
        lease."""
        self._sleep, self._wake_up = sleep, wake_up

    @property
    def freezes(self) -> bool:
        """Whether whoever is timed may have an engine's memory beside it."""
        return self._freezes

    @property
    def turn(self) -> Turn:
        return self._turn

    @property
    def seconds(self) -> dict[Turn, float]:
        """How long each turn has lasted until now, from when the lease was first asked for."""
        now = asyncio.get_running_loop().time()
        current = {} if self._turn_since is None else {self._turn: self._spent[self._turn] + now - self._turn_since}
        return self._spent | current

    @contextlib.asynccontextmanager
    async def generating(self, *, start: bool = False) -> AsyncIterator[None]:
        """While an engine has a request. Raises LeaseBroken."""
        self._to_generate += 1
        try:
            self._consider()
            await self._until(Turn.GENERATE)
            self._generating += 1
            self._in_start += start
        finally:
            self._to_generate -= 1
            self._consider()
        try:
            yield
        finally:
            self._generating -= 1
            self._in_start -= start
            self._idle_since = asyncio.get_running_loop().time()
            self._consider()

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """While an engine is being started. Raises LeaseBroken."""
        self._starting += 1
        try:
            async with self.generating(start=True):
                while self._checking:
                    await self._changed.wait()
                yield
        finally:
            self._starting -= 1
            self._tell()

    @contextlib.asynccontextmanager
    async def checking(self) -> AsyncIterator[None]:
        """While a candidate's values are compared, which may be beside engines that generate."""
        while self._starting:
            await self._changed.wait()
        self._checking += 1
        try:
            yield
        finally:
            self._checking -= 1
            self._tell()

    @contextlib.asynccontextmanager
    async def timing(self, *, whole: bool = False) -> AsyncIterator[None]:
        """While a candidate is timed, or anything else that must have a GPU to itself; `whole`: with all its memory.
        Raises LeaseBroken."""
        now = asyncio.get_running_loop().time()
        whole = whole and self._freezes
        if whole and self._to_time_whole == 0:
            self._whole_asked_at = now
        elif not whole and self._to_time == self._to_time_whole:
            self._timing_asked_at = now
        self._to_time += 1
        self._to_time_whole += whole
        try:
            self._consider()
            await self._until(Turn.TIME, whole=whole)
            self._timing += 1
        finally:
            self._to_time -= 1
            self._to_time_whole -= whole
            self._consider()
        try:
            yield
        finally:
            self._timing -= 1
            self._consider()

    async def _until(self, turn: Turn, *, whole: bool = False) -> None:
        while self._turn is not turn or (whole and not self._deep):
            if self._fault is not None:
                told = f"{type(self._fault).__name__}: {self._fault}"
                raise LeaseBroken(f"engines could not be put to sleep or woken: {told}") from self._fault
            await self._changed.wait()

    def _consider(self) -> None:
        """Passes the turn on if it is time to. Only the loop's thread comes here, so nothing changes meanwhile."""
        now = asyncio.get_running_loop().time()
        if self._turn_since is None:
            self._turn_since = now
        if self._turn is Turn.GENERATE and self._to_time:
            wait_seconds = self._seconds_to_timing(now)
            if wait_seconds <= 0:
                self._deep = not self._freezes or (self._to_time_whole > 0 and self._whole_is_due(now))
                if self._deep or not self._in_start:  # a start takes minutes, and other engines need not wait for it
                    self._pass_to(Turn.DRAIN)
            else:
                self._look_again_in(wait_seconds)
        if self._turn is Turn.DRAIN and not (self._generating if self._deep else self._in_start):
            self._pass_to(Turn.SLEEP)
            sleep = None if self._sleep is None else partial(self._sleep, self._deep)
            self._switching = asyncio.create_task(self._switch(sleep, to=Turn.TIME))
        if self._turn is Turn.TIME and not self._timing and not self._may_be_timed() and self._wants_another_turn():
            self._pass_to(Turn.WAKE)
            self._switching = asyncio.create_task(self._switch(self._wake_up, to=Turn.GENERATE))

    def _may_be_timed(self) -> int:
        """How many wait that are let in as soon as they run."""
        return self._to_time if self._deep else self._to_time - self._to_time_whole

    def _wants_another_turn(self) -> bool:
        """Whether somebody would generate, or does and is frozen, or needs a deep sleep."""
        return bool(self._to_generate or self._generating or self._to_time)

    def _pass_to(self, turn: Turn) -> None:
        now = asyncio.get_running_loop().time()
        if self._turn_since is not None:
            self._spent[self._turn] += now - self._turn_since
        self._turn, self._turn_since = turn, now

    def _seconds_to_timing(self, now: float) -> float:
        num_others = self._to_time - self._to_time_whole
        if max(num_others, self._to_time_whole) >= self._batch:
            return 0.0
        asked = [self._timing_asked_at] if num_others else []
        asked += [self._whole_asked_at] if self._to_time_whole else []
        patience_seconds = min(asked) + self._patience_seconds - now
        if self._generating or self._to_generate:
            return patience_seconds
        return min(patience_seconds, self._idle_since + self._idle_seconds - now)

    def _whole_is_due(self, now: float) -> bool:
        busy = self._generating or self._to_generate
        late = now >= self._whole_asked_at + self._patience_seconds
        return not busy or late or self._to_time_whole >= self._batch

    def _look_again_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._consider)

    async def _switch(self, work: Callable[[], Awaitable[None]] | None, *, to: Turn) -> None:
        if work is not None:
            start = asyncio.get_running_loop().time()
            try:
                await work()
            except Exception as error:  # whatever goes wrong, nobody may wait for the turn for ever
                log.exception("gpu_lease: broken on the way to %s", to)
                self._fault, to = error, Turn.BROKEN
            log.info("gpu_lease: %s after %.1f s", to, asyncio.get_running_loop().time() - start)
        self._pass_to(to)
        self._switching = None
        if to is Turn.GENERATE:
            self._timing_asked_at = asyncio.get_running_loop().time()
        self._tell()
        # After those who were let in have come in.
        asyncio.get_running_loop().call_soon(self._consider)

    def _tell(self) -> None:
        self._changed.set()
        self._changed.clear()
