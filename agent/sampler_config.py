"""The sampler's part of a run configuration: one section for each kind. Knows nothing of how they are used."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from agent.config_section import Count, Positive, PositiveFloat, Section
from agent.engine_config import RepetitionSection
from sandbox.types import Operator

# About 15,000 tokens: with an answer of 2,048 it fits the smallest window that models of code are served with today.
PROMPT_CHARACTERS = 48_000
Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RecordedSamplerConfig(Section):
    """Completions from a JSONL file."""

    kind: Literal["recorded"]
    path: str
    concurrency: Positive = 64
    prompt_characters: Positive = PROMPT_CHARACTERS


class GenerationSection(Section):
    """What every sampler that asks a model understands, whatever its kind.

    `top_k` 0 is no bound; `temperature` 0 always takes the likeliest token, and `operator_temperatures` names others by
    operator: a repair that is drawn as wildly as a draft makes new mistakes where it mends. `template` is the text that
    the model was trained on (a file, or a checkpoint's folder); `operator_templates` is a folder with `draft.txt`,
    `repair.txt` or `improve.txt`. Null is what the checkpoint carries, else the package's own.

    `stop` are texts that end an answer, and do not stand in it. `repetition` null lets an answer repeat itself.
    """

    kind: str
    temperature: Temperature = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.97
    top_k: Count = 0
    max_tokens: Positive = 2048
    concurrency: Positive = 64
    template: str | None = None
    operator_templates: str | None = None
    operator_temperatures: dict[Literal["draft", "repair", "improve", "merge"], Temperature] = Field(default={})
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    repetition: RepetitionSection | None = None

    def temperature_of(self, operator: Operator) -> float:
        """What a completion for that operator is drawn at."""
        return {str(name): given for name, given in self.operator_temperatures.items()}.get(operator, self.temperature)


class LocalModelSection(GenerationSection):
    """A checkpoint on this machine: `model` is its folder, or the id of one that the Hugging Face hub knows.

    `bos`: `as_shipped` sends what the template's text and the tokeniser's own rule give together, which can be two
    begin-of-text tokens; `single` exactly one, in front; `none` none. A prompt is cut to `prompt_tokens`; null is the
    model's context less `max_tokens`.
    """

    model: str
    bos: Literal["as_shipped", "single", "none"] = "as_shipped"
    prompt_tokens: Positive | None = None


class TransformersSamplerConfig(LocalModelSection):
    """A model in this process, on the CPU or one GPU. In a run whose candidates are timed on GPUs, `auto` is the CPU.

    At most `batch_size` answers are generated at a time; the first to come wait `gather_seconds` for company. `threads`
    bounds the cores it computes on; null is half of them, since judges want the others.
    """

    kind: Literal["transformers"]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Positive = 16
    gather_seconds: Annotated[float, Field(ge=0, le=10)] = 0.02
    threads: Positive | None = None


class VllmSamplerConfig(LocalModelSection):
    """vLLM engines of the run's own, under Ray, where and how `engine` says; a request goes to the least loaded.

    `concurrency` is for each engine. A request without an answer within `timeout_seconds` is taken back and asked
    again, three times at most; an engine that does not answer to that counts as dead.
    """

    kind: Literal["vllm"]
    concurrency: Positive = 256
    repetition: RepetitionSection | None = RepetitionSection()
    timeout_seconds: PositiveFloat = 900.0


class HttpSamplerConfig(GenerationSection):
    """Any OpenAI-compatible server. `api_key_env` names the environment variable that holds the key.

    A prompt is cut to `prompt_characters`; one that cannot be cut so far is not sent. `timeout_seconds` bounds one
    attempt, `total_seconds` all attempts at one answer and the waits between them.

    vLLM and those who follow it know more: `repetition`, and `answer_token_ids`, which asks for the answer's token
    ids. With `tokenizer`, a checkpoint's folder, the prompt goes out as token ids under its `bos` rule (`completions`
    only). With `context_tokens` beside it, what the server reads and answers together, a prompt is cut to that less
    `max_tokens`, counted in tokens, and `prompt_characters` does not matter.
    """

    kind: Literal["http"]
    base_url: str
    model: str
    api: Literal["completions", "chat"] = "completions"
    api_key_env: str | None = None
    prompt_characters: Positive = PROMPT_CHARACTERS
    timeout_seconds: PositiveFloat = 300.0
    total_seconds: PositiveFloat = 3600.0
    max_retries: Count = 5
    answer_token_ids: bool = False
    tokenizer: str | None = None
    context_tokens: Positive | None = None
    bos: Literal["as_shipped", "single", "none"] = "as_shipped"

    @model_validator(mode="after")
    def _token_ids_are_for_completions(self) -> Self:
        if self.tokenizer is not None and self.api == "chat":
            raise PydanticCustomError("unfit", "a chat server takes no token ids: api must be completions")
        return self

    @model_validator(mode="after")
    def _context_is_counted_in_tokens(self) -> Self:
        if self.context_tokens is not None and self.tokenizer is None:
            raise PydanticCustomError("unfit", "context_tokens needs tokenizer: without it nobody counts tokens")
        return self


SamplerConfig = Annotated[
    RecordedSamplerConfig | HttpSamplerConfig | TransformersSamplerConfig | VllmSamplerConfig,
    Field(discriminator="kind"),
]
