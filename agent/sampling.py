"""Turns the `sampler` section of a configuration into a sampler and the writer of its prompts.

Knows which kinds there are, and nothing of how they work; what is heavy is loaded when it is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import random
from dataclasses import dataclass
from pathlib import Path

from agent.checkpoint import locate, read_checkpoint
from agent.config import RunConfig
from agent.config_section import ConfigError
from agent.engine_config import EngineConfig
from agent.prompts import Limit, PromptWriter, in_characters, load_prompt_writer
from agent.sampler import RecordedSampler, Sampler
from agent.sampler_config import (
    GenerationSection,
    HttpSamplerConfig,
    LocalModelSection,
    RecordedSamplerConfig,
    SamplerConfig,
    TransformersSamplerConfig,
    VllmSamplerConfig,
)
from agent.tokens import Tokens
from sandbox import environment


def check_sampler(config: SamplerConfig, *, engine: EngineConfig) -> None:
    """Raises SamplerRefused, RecordingError, CheckpointError or ConfigError. Asks no server and loads no model."""
    if isinstance(config, HttpSamplerConfig):
        from agent.http_sampler import access

        access(config, environ=os.environ)
        limit_of(config, engine=engine, tokens=tokens_at_hand(config))
    elif isinstance(config, LocalModelSection):
        limit_of(config, engine=engine)
        if isinstance(config, TransformersSamplerConfig) and config.device == "cuda" and not environment.gpu_usable():
            raise ConfigError("sampler.device: cuda needs a GPU and none is available; allowed here: auto, cpu")
    else:
        RecordedSampler(config.path)


def check_engines(run: RunConfig, *, replaying: bool) -> None:
    """Raises ConfigError where vLLM engines could not be started as `engine` says. Starts none."""
    if not isinstance(run.sampler, VllmSamplerConfig):
        return
    python = run.engine.python
    if python is not None and run.ray.address is None and not os.access(python, os.X_OK):
        raise ConfigError(f"engine.python: {python!r} is no program; it must be the interpreter of an environment")
    if python is None and run.ray.address is None and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "sampler.kind: vllm needs vLLM: pip install 'kernelloop[vllm]' here, or name the interpreter of another "
            "environment with engine.python, or run `vllm serve` and use kind: http"
        )
    if replaying and run.ray.pool == "serial":
        raise ConfigError("ray.pool: serial judges on a GPU that Ray would give to a vLLM engine; use ray.pool: ray")


def open_sampler(run: RunConfig) -> Sampler:
    """One that has the machine to itself: vLLM's engines get all GPUs. Raises PoolError where there is no room."""
    config = run.sampler
    if isinstance(config, HttpSamplerConfig):
        from agent.http_sampler import HttpSampler

        tokens = tokens_at_hand(config)
        encode = None if tokens is None else tokens.encode
        return HttpSampler(config, environ=os.environ, jitter=random.Random(), encode=encode)
    if isinstance(config, TransformersSamplerConfig):
        from agent.transformers_sampler import TransformersSampler

        return TransformersSampler(config)
    if isinstance(config, VllmSamplerConfig):
        from agent.ray_engines import open_over_engines

        return open_over_engines(run, sampler=config, encode=tokens_of(config).encode, pool=None, replaying=False)
    return RecordedSampler(config.path)


def tokens_of(config: LocalModelSection) -> Tokens:
    """Raises CheckpointError."""
    return Tokens(locate(config.model), bos=config.bos)


def tokens_at_hand(config: HttpSamplerConfig | LocalModelSection) -> Tokens | None:
    """None where only the server knows. Raises CheckpointError."""
    if isinstance(config, LocalModelSection):
        return tokens_of(config)
    return None if config.tokenizer is None else Tokens(Path(config.tokenizer), bos=config.bos)


def open_prompt_writer(
    config: RecordedSamplerConfig | HttpSamplerConfig | LocalModelSection,
    *,
    engine: EngineConfig,
    capability: int | None = None,
) -> PromptWriter:
    """`engine` is what a vLLM engine is told, `capability` that of the GPU which kernels are compiled for. Raises
    PromptError, CheckpointError or ConfigError."""
    if isinstance(config, RecordedSamplerConfig):
        return load_prompt_writer(None, limit=in_characters(config.prompt_characters), capability=capability)
    tokens = tokens_at_hand(config)
    template = None if config.template is None else Path(config.template)
    checkpoint = locate(config.model) if isinstance(config, LocalModelSection) else template
    return load_prompt_writer(
        template,
        limit=limit_of(config, engine=engine, tokens=tokens),
        operator_templates=None if config.operator_templates is None else Path(config.operator_templates),
        checkpoint=checkpoint if checkpoint is not None and checkpoint.is_dir() else None,
        special_names=() if tokens is None else tokens.special_names,
        capability=capability,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What prompt and answer may have together. `named` says who bounds it, `raised` how to have more.

    `key` is the configuration's that bounds it; None where the model itself does.
    """

    tokens: int
    key: str | None
    named: str
    raised: str


def context_of(config: HttpSamplerConfig | LocalModelSection, *, engine: EngineConfig) -> Context | None:
    """The smallest of what model, engine and configuration say; None where nobody does. Raises CheckpointError."""
    if isinstance(config, HttpSamplerConfig):
        if config.context_tokens is None:
            return None
        key, raised = "sampler.context_tokens", "raise sampler.context_tokens if the server reads more"
        return Context(tokens=config.context_tokens, key=key, named=key, raised=raised)
    folder = locate(config.model)
    most = read_checkpoint(folder).context_tokens
    engines = engine.context_tokens if isinstance(config, VllmSamplerConfig) else None
    if engines is not None and engines < most:
        key, raised = "engine.max_model_len", f"raise engine.max_model_len, to the model's {most} at most"
        return Context(tokens=engines, key=key, named=key, raised=raised)
    raised = "take a model with a larger context"
    return Context(tokens=most, key=None, named=f"the context of {folder}", raised=raised)


def limit_of(
    config: RecordedSamplerConfig | HttpSamplerConfig | LocalModelSection,
    *,
    engine: EngineConfig,
    tokens: Tokens | None = None,
) -> Limit:
    """How long a prompt may be: in tokens where there is a tokeniser and a known context, else in characters.

    `engine` is what a vLLM engine is told. `tokens` are the checkpoint's, where they were read before.

    Raises CheckpointError, or ConfigError where prompt and answer have no room together.
    """
    if isinstance(config, RecordedSamplerConfig):
        return in_characters(config.prompt_characters)
    context = context_of(config, engine=engine)
    if context is None:
        assert isinstance(config, HttpSamplerConfig)
        return in_characters(config.prompt_characters)
    room = context.tokens - config.max_tokens
    if room < 1:
        raise ConfigError(
            f"sampler.max_tokens: {config.max_tokens} leaves no room for a prompt: {context.named} is "
            f"{context.tokens} tokens; allowed: 1 to {context.tokens - 1}, or {context.raised}"
        )
    asked = config.prompt_tokens if isinstance(config, LocalModelSection) else None
    if asked is not None and asked > room:
        raise ConfigError(
            f"sampler.prompt_tokens: {asked} and max_tokens {config.max_tokens} are more than the "
            f"{context.tokens} tokens of {context.named}; allowed: 1 to {room}"
        )
    counted = tokens or tokens_at_hand(config)
    assert counted is not None  # a context is only known where somebody counts
    return Limit(
        most=asked or room, length=counted.count, unit="tokens", remedy=remedy_for(config, asked=asked, context=context)
    )


def remedy_for(config: GenerationSection, *, asked: int | None, context: Context) -> str:
    """What helps where a prompt is too long."""
    room = context.tokens - config.max_tokens
    bound = "the model's context" if context.key is None else context.key
    shared = f"prompt and answer share {bound} of {context.tokens}"
    if asked is not None and asked < room:
        return f"raise sampler.prompt_tokens, to {room} at most with sampler.max_tokens {config.max_tokens}: {shared}"
    as_much = "" if asked is None else " and raise sampler.prompt_tokens as much"
    return f"lower sampler.max_tokens ({config.max_tokens}){as_much}, or {context.raised}: {shared}"
