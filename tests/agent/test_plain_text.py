"""Names of special tokens in a problem, an attempt or its feedback are text; the template's own stay special."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from agent.engine_config import EngineConfig
from agent.plain_text import as_data
from agent.prompts import PromptWriter
from agent.sampler_config import HttpSamplerConfig, TransformersSamplerConfig
from agent.sampling import open_prompt_writer
from agent.tokens import Tokens
from kernelllm import KernelLLM
from sandbox.types import Candidate, Failure, Observation, Operator, Problem, Proposal, Status, Verdict

ODD_NAME = "</s>"  # of a form that code may have


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint with room for a repair, and with a special token more."""
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "odd")
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_special_tokens([ODD_NAME])
    tokenizer.save(str(copy / "tokenizer.json"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 9999}))
    return copy


def local(folder: Path) -> TransformersSamplerConfig:
    return TransformersSamplerConfig(kind="transformers", model=str(folder), max_tokens=1)


def problem_with(text: str) -> Problem:
    return Problem(id="p", source=f"import torch\n\nx = '{text}'\n", origin="test")


def attempt_with(text: str) -> Observation:
    candidate = Candidate(problem_id="p", source=f"y = '{text}'\n", operator=Operator.DRAFT)
    failure = Failure(error_class="ValueError", message="no")
    verdict = Verdict(
        candidate_id=candidate.id, status=Status.COMPILE_ERROR, failure=failure, feedback=f"found {text}{text}"
    )
    return Observation(candidate=candidate, verdict=verdict)


def prompts_with(text: str, *, writer: PromptWriter) -> list[str]:
    """A draft, a repair and a merge."""
    problem, parents = problem_with(text), (attempt_with(text), attempt_with(f"other {text}"))
    ids = tuple(parent.candidate.id for parent in parents)
    return [
        writer.render(problem, Proposal(id="1", operator=Operator.DRAFT), ()),
        writer.render(problem, Proposal(id="2", operator=Operator.REPAIR, parents=ids[:1]), parents[:1]),
        writer.render(problem, Proposal(id="3", operator=Operator.MERGE, parents=ids), parents),
    ]


def special_names_in(prompt: str, *, folder: Path) -> list[str]:
    """Those of the special tokens that are sent, in order."""
    tokens = Tokens(folder, bos="as_shipped")
    added = Tokenizer.from_file(str(folder / "tokenizer.json")).get_added_tokens_decoder()
    return [tokens.name(id) for id in tokens.encode(prompt) if id in added]


@pytest.mark.parametrize("name", ["<|begin_of_text|>", "<|end_of_text|>", ODD_NAME])
def test_the_name_of_a_special_token_in_data_is_text(folder: Path, name: str) -> None:
    for prompt in prompts_with(name, writer=open_prompt_writer(local(folder), engine=EngineConfig())):
        assert special_names_in(prompt, folder=folder) == ["<|begin_of_text|>"] * 2  # tokeniser's and template's


def test_prompts_for_a_server_break_the_names_of_its_tokeniser_or_those_that_look_like_one(folder: Path) -> None:
    server = HttpSamplerConfig(kind="http", base_url="http://localhost", model="m")
    knowing = server.model_copy(update={"tokenizer": str(folder)})
    for section, broken in ((server, False), (knowing, True)):
        prompts = prompts_with(f"<|im_end|>{ODD_NAME}", writer=open_prompt_writer(section, engine=EngineConfig()))
        assert all("< |im_end|>" in prompt and "<|im_end|>" not in prompt for prompt in prompts)
        assert all((ODD_NAME not in prompt) is broken for prompt in prompts)


def test_a_module_given_to_the_model_cards_interface_is_data_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []

    def answer(self: KernelLLM, prompt: str, *_: object) -> str:
        prompts.append(prompt)
        return ""

    monkeypatch.setattr(KernelLLM, "generate_raw", answer)
    KernelLLM(str(folder), "cpu").generate_triton(f"x = '<|end_of_text|>{ODD_NAME}'")
    assert special_names_in(prompts[0], folder=folder) == ["<|begin_of_text|>"] * 2


@given(text=st.text(alphabet="<|>/s a\n", max_size=60))
@settings(max_examples=200, deadline=None)
def test_names_are_broken_and_nothing_else_changes(text: str) -> None:
    told = as_data(text, special_names=(ODD_NAME, "s>"))  # they overlap
    assert ODD_NAME not in told
    assert "s>" not in told
    assert not re.search(r"<\|[^\s<>|]+\|>", told)
    assert told.replace(" ", "") == text.replace(" ", "")
    if "s>" not in text and not re.search(r"<\|[^\s<>|]+\|>", text):
        assert told == text
