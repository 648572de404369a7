"""What may stand in a configuration about vLLM, and what is found wrong before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import RunConfig, load_config
from agent.config_section import ConfigError
from agent.engine_config import EngineConfig
from agent.ray_engines import engine_arguments, engine_environment
from agent.sampler_config import HttpSamplerConfig, VllmSamplerConfig
from agent.sampling import check_engines, limit_of
from agent.vllm_sampler import generation_options


def written(folder: Path, *lines: str) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    path = folder / "run.yaml"
    path.write_text("problems: .\nsampler: {kind: vllm, model: model}\n" + "".join(f"{line}\n" for line in lines))
    return path


def loaded(folder: Path, *lines: str) -> RunConfig:
    return load_config(written(folder, *lines))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("engine: {placement: beside}", "engine.placement: input should be 'own' or 'shared'"),
        ("engine: {placement: shared, tensor_parallel: 2}", "tensor_parallel must be 1"),
        ("engine: {gpus: 2}", "engine.gpus: unknown key; known keys: num_engines"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match="engine") as caught:
        loaded(tmp_path, line)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_engines_for_a_sampler_that_has_none_are_a_mistake(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text("problems: .\nsampler: {kind: http, base_url: 'http://x', model: m}\nengine: {num_engines: 2}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: engine is for sampler\.kind: vllm, and sampler\.kind is http"):
        load_config(path)
    assert load_config(path, ["engine={}"]).engine == EngineConfig()


def test_a_chat_server_takes_no_token_ids(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text("problems: .\nsampler: {kind: http, base_url: 'http://x', model: m, api: chat, tokenizer: model}\n")
    with pytest.raises(ConfigError, match="api must be completions"):
        load_config(path)


def test_a_servers_context_needs_somebody_who_counts_and_room_for_an_answer(tmp_path: Path) -> None:
    path = written(tmp_path)
    server = "kind: http, base_url: 'http://x', model: m, max_tokens: 50, context_tokens: 50"
    path.write_text(f"problems: .\nsampler: {{{server}}}\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: sampler: context_tokens needs tokenizer"):
        load_config(path)
    section = load_config(path, [f"sampler.tokenizer={tmp_path / 'model'}"]).sampler
    assert isinstance(section, HttpSamplerConfig)
    with pytest.raises(ConfigError, match=r"max_tokens: 50 leaves no room .*: sampler\.context_tokens is 50.* 1 to 49"):
        limit_of(section, engine=EngineConfig())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampler.stop=['']", "sampler.stop.0: string should have at least 1 character"),
        ("sampler.repetition={min_pattern_size: 9, max_pattern_size: 8}", "min_pattern_size 9 must not be above"),
    ],
)
def test_an_ending_that_could_not_be_is_a_mistake(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(written(tmp_path), [override])


def test_vllm_is_told_what_the_configuration_says(tmp_path: Path) -> None:
    config = loaded(tmp_path, "engine: {placement: shared, load_format: dummy, arguments: {seed: 3, dtype: float16}}")
    assert isinstance(config.sampler, VllmSamplerConfig)
    arguments = engine_arguments(config.sampler, config.engine, on_gpu=True)
    assert arguments["model"] == str(tmp_path / "model")
    assert (arguments["enable_sleep_mode"], arguments["load_format"]) == (True, "dummy")
    assert (arguments["seed"], arguments["dtype"]) == (3, "float16"), "further arguments win"
    assert arguments["gpu_memory_utilization"] < 0.5, "a judge wants the rest"
    assert engine_environment(config.sampler.model, config.engine)["HF_HUB_OFFLINE"] == "1"
    options = generation_options(config.sampler)
    assert options["max_tokens"] == config.sampler.max_tokens
    assert options["repetition_detection"]["min_count"] >= 2
    assert "seed" not in options, "each request has its own"


@pytest.mark.parametrize(
    ("engine", "more", "says"),
    [
        ({"python": "/nowhere/python"}, {}, "engine.python: '/nowhere/python' is no program"),
        ({"python": "/bin/sh"}, {"ray": {"pool": "serial"}}, "ray.pool: serial"),
    ],
)
def test_what_cannot_be_started_is_found_before(
    tmp_path: Path, engine: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    config = loaded(tmp_path)
    run = RunConfig.model_validate({**config.model_dump(), "engine": EngineConfig(**engine).model_dump(), **more})
    with pytest.raises(ConfigError, match=says):
        check_engines(run, replaying=True)


def test_without_vllm_anywhere_the_ways_to_it_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"kernelloop\[vllm\].*engine\.python.*kind: http"):
        check_engines(loaded(tmp_path), replaying=False)
