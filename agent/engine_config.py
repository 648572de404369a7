"""The part of the run configuration that is about vLLM engines: every key, its default and what it accepts.

Knows nothing of how engines are started or asked.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from agent.config_section import Count, Positive, PositiveFloat, Section


class RepetitionSection(Section):
    """An answer ends when a pattern of `min_pattern_size` to `max_pattern_size` tokens stands `min_count` times in a
    row: a model that has lost its way would go on to `max_tokens`.
    """

    min_pattern_size: Positive = 1
    max_pattern_size: Positive = 64
    min_count: Annotated[int, Field(ge=2)] = 32

    @model_validator(mode="after")
    def _some_size_is_allowed(self) -> Self:
        if self.min_pattern_size > self.max_pattern_size:
            told = "min_pattern_size {low} must not be above max_pattern_size {high}"
            raise PydanticCustomError("unfit", told, {"low": self.min_pattern_size, "high": self.max_pattern_size})
        return self


class EngineConfig(Section):
    """The vLLM engines of `sampler.kind: vllm`; with another kind a mistake.

    `num_engines` null is one for each GPU that judges leave, or one in all where there is no GPU. `placement` `own`
    gives an engine `tensor_parallel` GPUs of its own; `shared` one that a judge has too: it keeps off the GPU while
    candidates are timed, of which `time_together` are awaited, for `patience_seconds` at most while it has work.
    `while_timing` `frozen` stops its requests where they are, in an instant, and leaves it its memory; `asleep` has
    them finish and frees the memory, as `frozen` does too for what found too little. `memory_share` is of each GPU's
    memory; null is 0.9 of an own GPU and 0.45 of a shared one.

    `python` is the interpreter of another environment, with vLLM and this one's Ray and Python versions. `environment`
    has variables for the engine's process; it is stored with the run, so no secrets. `load_format` `dummy` draws random
    weights. `arguments` are further ones of vLLM's AsyncEngineArgs, and take the place of ours. An engine may take
    `start_seconds` to come up, and is started again `max_restarts` times after it died.
    """

    num_engines: Positive | None = None
    placement: Literal["own", "shared"] = "own"
    tensor_parallel: Positive = 1
    python: str | None = None
    environment: dict[str, str] = Field(default={})
    load_format: Literal["auto", "dummy"] = "auto"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Positive | None = None
    memory_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    enforce_eager: bool = False
    arguments: dict[str, str | int | float | bool] = Field(default={})
    start_seconds: PositiveFloat = 900.0
    max_restarts: Count = 3
    while_timing: Literal["frozen", "asleep"] = "frozen"
    time_together: Positive = 16
    patience_seconds: PositiveFloat = 60.0

    @property
    def context_tokens(self) -> int | None:
        """The most that an engine reads and answers together, as far as it is told here; None is the model's own."""
        told = self.arguments.get("max_model_len", self.max_model_len)
        return told if isinstance(told, int) and told > 0 else None  # vLLM has words and -1 for its own choice

    @model_validator(mode="after")
    def _shares_one_gpu(self) -> Self:
        if self.placement == "shared" and self.tensor_parallel > 1:
            raise PydanticCustomError("unfit", "an engine shares one GPU only: tensor_parallel must be 1")
        return self
