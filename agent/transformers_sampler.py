"""Completions from a model in this process: calls are gathered into batches, and answered from a thread of their own.

Knows nothing of tensors: `agent/decoding.py` does, and is loaded by the thread, so that nothing waits for torch. The
caller's loop stays live; a call that is cancelled gives its place up before the next token.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.checkpoint import locate, read_checkpoint
from agent.endings import Ending, before_stop
from agent.sampler import Completion, PromptRefused, SampleRequest, SamplerError, SamplerRefused
from agent.sampler_config import TransformersSamplerConfig
from agent.tokens import Tokens
from sandbox.interruptible import Interrupted, Interruptible

if TYPE_CHECKING:
    from agent.decoding import Decoder, Order, Row

_INTERRUPT_SECONDS = 5.0  # then loading is waited for without interrupting it again


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One answer that somebody waits for."""

    prompt_ids: tuple[int, ...]
    seed: int
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    ending: Ending | None  # None where nothing else ends it
    answer: Future[tuple[tuple[int, ...], str]]  # token ids and finish reason


class TransformersSampler:
    """One row of a batch a request, `batch_size` at a time; those that come later take the places that become free.

    The text depends on prompt, seed and settings. The same again is not guaranteed in another company: see `decoding`.
    """

    def __init__(self, config: TransformersSamplerConfig, *, load: Callable[[], Decoder] | None = None) -> None:
        """Begins to load the model; what is wrong with it is told to whoever samples.

        `load` gives a model that is there already; it is called in the thread that will use it. Raises CheckpointError.
        """
        self._config = config
        folder = locate(config.model)
        self._checkpoint = read_checkpoint(folder)
        self._tokens = Tokens(folder, bos=config.bos)
        self._load = load or self._load_checkpoint
        self._inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._up: Future[None] = Future()
        self._loading = Interruptible()
        self._thread = threading.Thread(target=self._serve, name="transformers sampler", daemon=True)
        self._thread.start()

    async def wait_until_up(self) -> None:
        """Until the model is loaded. Raises SamplerRefused if it cannot be."""
        up = asyncio.wrap_future(self._up)
        up.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waits may have left by then
        await asyncio.shield(up)

    async def sample(self, request: SampleRequest) -> Completion:
        return await self.sample_under(request, config=self._config)

    async def sample_under(self, request: SampleRequest, *, config: TransformersSamplerConfig) -> Completion:
        prompt_ids = self._tokens.encode(request.prompt)
        room = self._checkpoint.context_tokens - len(prompt_ids)
        if room < 1:
            raise PromptRefused(
                f"{self._config.model}: the prompt has {len(prompt_ids)} tokens, and the model's context "
                f"{self._checkpoint.context_tokens}; lower sampler.prompt_tokens below that, or take a model with a "
                "larger context"
            )
        call = Call(
            prompt_ids=prompt_ids,
            seed=request.seed,
            temperature=config.temperature_of(request.proposal.operator),
            top_p=config.top_p,
            top_k=config.top_k,
            max_tokens=min(config.max_tokens, room),
            ending=self._ending_under(config),
            answer=Future(),
        )
        if self._closing.is_set():
            raise SamplerError(f"{self._config.model}: the sampler is closed")
        self._inbox.put(call)
        ids, finish_reason = await asyncio.wrap_future(call.answer)
        text = self._tokens.decode(ids[:-1] if ids[-1] in self._checkpoint.eos_ids else ids)
        wanted = before_stop(text, config.stop)
        return Completion(
            text=text if wanted is None else wanted,
            finish_reason=finish_reason if wanted is None else "stop",
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(ids),
            token_ids=ids,
            sampler=f"transformers {self._config.model}",
        )

    def _ending_under(self, config: TransformersSamplerConfig) -> Ending | None:
        if not config.stop and config.repetition is None:
            return None
        return Ending(self._tokens.piecewise(), stop=config.stop, repetition=config.repetition)

    async def close(self) -> None:
        """Returns when the thread has ended, after the token that it is at; loading is broken off. What is still asked
        for fails."""
        self._closing.set()
        self._inbox.put(None)
        self._loading.end()
        await asyncio.to_thread(self._loading.join, seconds=_INTERRUPT_SECONDS)
        await asyncio.to_thread(self._thread.join)

    def _load_checkpoint(self) -> Decoder:
        from agent.decoding import Decoder

        return Decoder.load(
            self._checkpoint,
            device=self._config.device,
            num_slots=self._config.batch_size,
        )

    def _serve(self) -> None:
        """The thread. Whatever ends it is told to all who wait, and to those who come later."""
        batch = Batch(self._config, inbox=self._inbox, closing=self._closing)
        error = SamplerError(f"{self._config.model}: the sampler is closed")
        try:
            decoder = self._loading.call(self._load)
        except Interrupted:
            self._up.set_exception(error)
        except Exception as trouble:  # noqa: BLE001  (as many kinds as there are ways of saving a model)
            error = SamplerRefused(f"sampler.model: {self._config.model}: {one_line(trouble)}")
            self._up.set_exception(error)
        else:
            self._up.set_result(None)
            decoder.use_threads(self._config.threads or default_threads())
            try:
                batch.serve(decoder)
            except Exception as trouble:  # noqa: BLE001  (the outermost frame of this thread)
                error = SamplerError(f"{self._config.model}: {type(trouble).__name__}: {one_line(trouble)}")
        batch.fail(error)
        while not self._closing.is_set():
            if (call := self._inbox.get()) is not None:
                settle(call, error=error)
        batch.fail(error)  # those who came just before it was closed


class Batch:
    """The calls that a decoder works on, and those that wait for a place. Used by the sampler's thread alone."""

    def __init__(
        self, config: TransformersSamplerConfig, *, inbox: queue.SimpleQueue[Call | None], closing: threading.Event
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._closing = closing
        self._waiting: deque[Call] = deque()
        self._rows: dict[Row, Call] = {}

    def serve(self, decoder: Decoder) -> None:
        """Until the sampler is closed; leaves the decoder without rows."""
        try:
            while not self._closing.is_set():
                self._work(decoder)
        finally:
            for row in self._rows:
                decoder.end(row)

    def _work(self, decoder: Decoder) -> None:
        """A token for every row, and all that is due before."""
        self._take_calls()
        for row in [row for row, call in self._rows.items() if call.answer.cancelled()]:
            decoder.end(row)
            del self._rows[row]
        while self._waiting and decoder.num_free and not self._closing.is_set():
            call = self._waiting[0]  # left there until it is a row: if that fails, it must be told
            if not call.answer.cancelled():
                row = decoder.begin(self._order(call))
                self._rows[row] = call
                self._hand_over(row, decoder=decoder)
            self._waiting.popleft()
        for row in decoder.step():
            self._hand_over(row, decoder=decoder)

    def fail(self, error: SamplerError) -> None:
        """Tells all who wait, also those whose calls have not been taken."""
        while not self._inbox.empty():
            if (call := self._inbox.get()) is not None:
                self._waiting.append(call)
        for call in (*self._rows.values(), *self._waiting):
            settle(call, error=error)
        self._rows.clear()
        self._waiting.clear()

    def _take_calls(self) -> None:
        """Those that have come. With nothing to do, waits for one, and then a little for its company."""
        if not self._rows and not self._waiting:
            self._keep(self._inbox.get())
            until = time.monotonic() + self._config.gather_seconds
            while len(self._waiting) < self._config.batch_size and (left := until - time.monotonic()) > 0:
                try:
                    self._keep(self._inbox.get(timeout=left))
                except queue.Empty:
                    break
        while not self._inbox.empty():
            self._keep(self._inbox.get())

    def _keep(self, call: Call | None) -> None:
        if call is not None:
            self._waiting.append(call)

    def _order(self, call: Call) -> Order:
        from agent.decoding import Order

        return Order(
            prompt_ids=call.prompt_ids,
            seed=call.seed,
            temperature=call.temperature,
            top_p=call.top_p,
            top_k=call.top_k,
            max_tokens=call.max_tokens,
        )

    def _hand_over(self, row: Row, *, decoder: Decoder) -> None:
        if row not in self._rows:  # others may have rows of their own
            return
        ending = self._rows[row].ending
        if row.finish_reason is None and ending is not None:
            row.finish_reason = ending.reason(row.token_ids)
            if row.finish_reason is not None:
                decoder.end(row)
        if row.finish_reason is not None:
            settle(self._rows.pop(row), answer=(tuple(row.token_ids), row.finish_reason))


def settle(call: Call, *, answer: tuple[tuple[int, ...], str] | None = None, error: SamplerError | None = None) -> None:
    """Whoever waits goes on, unless they gave up."""
    try:
        if error is not None:
            call.answer.set_exception(error)
        elif answer is not None:
            call.answer.set_result(answer)
    except InvalidStateError:  # cancelled
        return


def default_threads() -> int:
    """Half of the cores that this process may use: judges want the others."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
