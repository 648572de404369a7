"""Completions from any server that speaks OpenAI's HTTP forms: vLLM, SGLang, llama.cpp, a vendor.

Knows nothing of what prompts say or what becomes of the answers. The key is read from one named environment variable
and stands in no log line and no error.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from agent.sampler import Completion, PromptRefused, SampleRequest, SamplerError, SamplerRefused, completion_of
from agent.sampler_config import HttpSamplerConfig

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
# A server may ask for more patience than our own backoff has, but not for a run that stands still unseen.
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_CONNECT_SECONDS = 20.0
MAX_QUOTED_CHARACTERS = 300
MAX_NUMBER = 2**31  # token counts and token ids are below, in whatever a server sends
# How servers word a prompt that is too long: OpenAI and vLLM; llama.cpp; SGLang and others. They send 400, 413 or 422.
TOO_LONG = re.compile(r"context[ _-]?(length|size|window)|maximum model length|prompt.{0,40}too long", re.IGNORECASE)
# Finish reasons of what a server gave up: that is no answer, though it comes with status 200.
GIVEN_UP = ("abort", "error")
PATHS = {"completions": "completions", "chat": "chat/completions"}

logger = logging.getLogger(__name__)


class Message(BaseModel):
    """A chat answer; `content` is null when the model said nothing outside its thinking."""

    content: str | None


class Choice(BaseModel):
    """One answer: `text` in the completions form, `message` in the chat form. vLLM adds `token_ids` when asked to."""

    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    token_ids: list[Annotated[int, Field(ge=0, lt=MAX_NUMBER)]] | None = None


class Reply(BaseModel):
    """What is read of a server's reply; the rest is left alone, since every server adds its own."""

    choices: list[Choice] = Field(min_length=1)
    usage: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An attempt that brought no completion and may be repeated; `wait_seconds` is what the server asked for."""

    reason: str
    wait_seconds: float | None = None


class HttpSampler:
    """One request a sample, at most `concurrency` at a time; waiting to try again counts as being in flight.

    Tried again, up to `max_retries` times and with exponential backoff and jitter: 408, 429 and 5xx (for as long as
    Retry-After says, if it does), timeouts, lost connections, and replies that are not the promised JSON. Any other
    status is SamplerRefused at once, or PromptRefused where the reply says that the prompt is too long.
    `timeout_seconds` bounds one whole attempt, `total_seconds` all of them. Whatever was tried, `sample` gives one
    completion or an error, so that nothing is charged for attempts.
    """

    def __init__(
        self,
        config: HttpSamplerConfig,
        *,
        environ: Mapping[str, str],
        jitter: random.Random,
        encode: Callable[[str], Sequence[int]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """With `encode` prompts go out as token ids. Raises SamplerRefused when address or key are not usable."""
        self._config = config
        self._url, self._key = access(config, environ=environ)
        self._encode = encode
        self._jitter = jitter
        self._sleep = sleep
        self._waited_out: Counter[str] = Counter()  # requests that wait now, by reason
        self._slots = asyncio.Semaphore(config.concurrency)
        self._client = httpx.AsyncClient(
            headers={} if self._key is None else {"Authorization": f"Bearer {self._key}"},
            # asyncio.timeout bounds whole attempts; httpx would bound each read, and a trickling server resets that.
            timeout=httpx.Timeout(None, connect=min(MAX_CONNECT_SECONDS, config.timeout_seconds)),
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
        )

    async def sample(self, request: SampleRequest) -> Completion:
        body = self._body(request)
        last = "nothing"
        async with self._slots:
            try:
                async with asyncio.timeout(self._config.total_seconds):
                    for attempt in itertools.count():
                        outcome = await self._attempt(body, prompt=request.prompt)
                        if isinstance(outcome, Completion):
                            return outcome
                        last = outcome.reason
                        if attempt == self._config.max_retries:
                            raise SamplerError(f"{self._url}: no completion in {attempt + 1} attempts, last: {last}")
                        await self._wait_out(outcome, attempt=attempt)
            except TimeoutError as error:
                seconds = self._config.total_seconds
                raise SamplerError(f"{self._url}: no completion within {seconds:g} s, last: {last}") from error
        raise AssertionError("counting has no end")

    async def close(self) -> None:
        await self._client.aclose()

    def _body(self, request: SampleRequest) -> dict[str, Any]:
        config = self._config
        asked: dict[str, Any] = {
            "prompt": request.prompt if self._encode is None else list(self._encode(request.prompt))
        }
        if config.api == "chat":
            asked = {"messages": [{"role": "user", "content": request.prompt}]}
        # What not every server knows is sent only where it is asked for.
        more: dict[str, Any] = {"top_k": config.top_k} if config.top_k else {}
        if config.stop:
            more["stop"] = list(config.stop)
        if config.repetition is not None:
            more["repetition_detection"] = config.repetition.model_dump()
        if config.answer_token_ids:
            more["return_token_ids"] = True
        return {
            "model": config.model,
            **asked,
            **more,
            "n": 1,
            "max_tokens": config.max_tokens,
            "temperature": config.temperature_of(request.proposal.operator),
            "top_p": config.top_p,
            "seed": request.seed,
            "stream": False,
        }

    async def _attempt(self, body: Mapping[str, Any], *, prompt: str) -> Completion | Fault:
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._client.post(self._url, json=body)
        except (TimeoutError, httpx.TimeoutException):
            return Fault(reason=f"no reply within {self._config.timeout_seconds:g} s")
        except httpx.TransportError as error:
            return Fault(reason=f"{type(error).__name__}: {error}".rstrip(": "))
        except httpx.DecodingError as error:
            return Fault(reason=f"garbage: {error}")
        if response.status_code == 200:
            return self._completion(response, prompt=prompt)
        reason = f"status {response.status_code}: {self._quoted(response)}"
        if response.status_code in (408, 429) or response.status_code >= 500:
            return Fault(reason=reason, wait_seconds=retry_after_seconds(response.headers))
        if response.status_code in (400, 413, 422) and TOO_LONG.search(response.text):
            bound = "prompt_characters" if self._config.context_tokens is None else "context_tokens"
            raise PromptRefused(f"{self._url}: {reason}; lower sampler.{bound} or sampler.max_tokens")
        raise SamplerRefused(f"{self._url}: {reason}")

    def _completion(self, response: httpx.Response, *, prompt: str) -> Completion | Fault:
        try:
            reply = Reply.model_validate_json(response.content)
        except ValidationError:
            return Fault(reason=f"garbage: {self._quoted(response)}")
        choice = reply.choices[0]
        text = choice.text
        if self._config.api == "chat":
            text = None if choice.message is None else choice.message.content or ""
        if text is None:
            return Fault(reason=f"a reply without an answer: {self._quoted(response)}")
        if choice.finish_reason in GIVEN_UP:
            return Fault(reason=f"the server gave the request up: finish reason {choice.finish_reason}")
        completion_tokens = _count(reply.usage, "completion_tokens")
        if not (text or completion_tokens or choice.token_ids or choice.finish_reason):
            return Fault(reason=f"nothing was generated, and nothing ended it: {self._quoted(response)}")
        completion = completion_of(
            text,
            prompt=prompt,
            finish_reason=choice.finish_reason,
            prompt_tokens=_count(reply.usage, "prompt_tokens"),
            completion_tokens=completion_tokens,
            sampler=f"http {self._config.model}",
        )
        ids = choice.token_ids
        return completion if ids is None else replace(completion, token_ids=tuple(ids))

    async def _wait_out(self, fault: Fault, *, attempt: int) -> None:
        """Of requests that fail together, the first alone is told."""
        wait_seconds = self._wait_seconds(fault, attempt=attempt)
        if fault.reason not in self._waited_out:
            logger.warning("%s: %s; trying again in %.1f s", self._url, fault.reason, wait_seconds)
        self._waited_out[fault.reason] += 1
        try:
            await self._sleep(wait_seconds)
        finally:
            self._waited_out -= Counter({fault.reason: 1})  # drops what comes to zero

    def _wait_seconds(self, fault: Fault, *, attempt: int) -> float:
        """At least what the server asked for; jitter keeps requests that failed together from coming back together."""
        longest_seconds = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 30))
        backoff_seconds = longest_seconds * self._jitter.uniform(0.5, 1.0)
        return max(backoff_seconds, min(fault.wait_seconds or 0.0, MAX_RETRY_AFTER_SECONDS))

    def _quoted(self, response: httpx.Response) -> str:
        """The beginning of a reply's text on one line, without the key, which some servers echo."""
        text = " ".join(response.text.split())
        if self._key is not None:
            text = text.replace(self._key, "[key]")
        return text[:MAX_QUOTED_CHARACTERS] or "an empty reply"


def access(config: HttpSamplerConfig, *, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The address to post to and the key, if one is wanted. Raises SamplerRefused when either is not usable."""
    return endpoint(config.base_url, api=config.api), _read_key(config.api_key_env, environ=environ)


def endpoint(base_url: str, *, api: str) -> str:
    """The address to post to. A `base_url` without a path gets `/v1`; one with a path keeps its own."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise SamplerRefused(f"sampler.base_url: {error}") from error
    if url.userinfo or url.query:  # before anything that quotes the address
        raise SamplerRefused(
            "sampler.base_url: must hold no user, password or query; name a key with sampler.api_key_env"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise SamplerRefused(f"sampler.base_url: {base_url!r} must be an http:// or https:// address")
    folder = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=f"{folder}/{PATHS[api]}"))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After, in seconds or as a date; a date counts from the reply's own Date, so no clock of ours is asked."""
    value = headers.get("retry-after", "").strip()
    try:
        if value.isdecimal():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def _read_key(variable: str | None, *, environ: Mapping[str, str]) -> str | None:
    if variable is None:
        return None
    key = environ.get(variable, "").strip()
    if not key:
        raise SamplerRefused(f"sampler.api_key_env: the environment variable {variable} is not set")
    if not (key.isascii() and key.isprintable()):
        raise SamplerRefused(f"sampler.api_key_env: {variable} holds characters that no key has")
    return key


def _count(usage: Any, name: str) -> int | None:
    """A token count, or None where the server sent none that can be one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < MAX_NUMBER else None
