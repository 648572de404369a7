"""The model card's interface on a tiny checkpoint: its example, its settings, and the faults that it ships with."""

from __future__ import annotations

import copy
import functools
import io
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import kernelllm
from agent.sampler import PromptRefused
from agent.verified import Task
from kernelllm import EXAMPLE, KernelLLM, NoKernelPassed
from tests.tiny_checkpoint import TEMPLATE, make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("kernelllm") / "tiny")


@functools.cache
def loaded(folder: Path) -> KernelLLM:
    torch.set_num_threads(1)
    return KernelLLM(model_name=str(folder), device="cpu")


def model(folder: Path, *, seed: int | None = 1) -> KernelLLM:
    """As if it were fresh, but loaded once."""
    fresh = copy.copy(loaded(folder))
    fresh._dice = random.Random(seed)
    return fresh


def test_the_cards_example_runs(folder: Path) -> None:
    llm = KernelLLM(model_name=str(folder), device="cpu", seed=3)
    assert KernelLLM(str(folder), "cpu", seed=3).generate_raw("x", 1.0, 24) == llm.generate_raw("x", 1.0, 24)
    answer = llm.generate_triton(EXAMPLE, max_new_tokens=40)
    assert isinstance(answer, str)
    assert isinstance(llm.generate_triton(EXAMPLE, 1.0, 8), str)
    assert isinstance(llm.generate_raw("Your prompt here", temperature=1.0, max_new_tokens=8), str)
    assert llm.device == "cpu"
    assert llm.model_name == str(folder)


def test_nothing_is_lost_from_the_head_of_an_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = TEMPLATE.replace("{}", "import torch")
    texts = set()
    for seed in range(8):
        text = model(folder, seed=seed).generate_triton("import torch", max_new_tokens=30)
        assert text == model(folder, seed=seed).generate_raw(prompt, max_new_tokens=30)
        assert text == "".join(model(folder, seed=seed).pieces(prompt, max_new_tokens=30)).strip()
        model(folder, seed=seed).stream_raw(prompt, max_new_tokens=30)
        assert capsys.readouterr().out.strip() == text
        texts.add(text)
    assert any(0 < len(text) < 17 for text in texts)  # those that the wrapper as shipped would have emptied


def test_each_call_is_another_answer_and_a_seed_gives_them_again(folder: Path) -> None:
    first, again = model(folder), model(folder)
    answers = [first.generate_raw("import torch", 1.0, 24) for _ in range(4)]
    assert answers == [again.generate_raw("import torch", 1.0, 24) for _ in range(4)]
    assert len(set(answers)) > 1
    assert len({model(folder, seed=None).generate_raw("import torch", 1.0, 24) for _ in range(4)}) > 1


def test_an_answer_that_nobody_reads_to_its_end_is_in_nobodys_way(folder: Path) -> None:
    llm = model(folder)
    begun = [llm.pieces("import torch", 1.0, 400) for _ in range(3)]
    for pieces in begun:
        next(pieces, None)
    assert isinstance(llm.generate_raw("import torch", max_new_tokens=8), str)
    for pieces in begun:
        assert isinstance("".join(pieces), str)


def test_an_answer_is_computed_on_half_of_the_cores_or_as_many_as_it_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    before = torch.get_num_threads()
    for llm, num_threads in (
        (KernelLLM(str(folder), "cpu", seed=1), 3),
        (KernelLLM(str(folder), "cpu", seed=1, threads=2), 2),
    ):
        seen = [torch.get_num_threads() for _ in llm._answer_ids("def f", 1.0, 8)]
        assert set(seen) == {num_threads}
        assert torch.get_num_threads() == before, "what the caller had is the caller's again"


def test_a_prompt_beyond_the_context_is_refused(folder: Path) -> None:
    with pytest.raises(PromptRefused, match="the context 512; give a shorter module"):
        model(folder).generate_raw("import torch " * 400)


def test_the_repl_sends_what_it_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[str] = []
    monkeypatch.setattr(KernelLLM, "stream_raw", lambda self, prompt: prompts.append(prompt))
    for typed in ("class Model: ...\n", "exit\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        model(folder).run_repl()
    assert prompts == [TEMPLATE.replace("{}", "class Model: ..."), TEMPLATE.replace("{}", EXAMPLE)]
    assert "Ctrl+D" in capsys.readouterr().out


def test_a_verified_kernel_is_searched_for_with_the_model_that_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def find(task: Task, **options: Any) -> Any:
        seen.update(options, task=task)
        raise NoKernelPassed("none")

    monkeypatch.setattr(kernelllm, "find_kernel", find)
    with pytest.raises(NoKernelPassed):
        model(folder).generate_triton("the module", 0.9, 64, verified=True, n=7, run_dir=tmp_path)
    task = seen["task"]
    assert (task.code, task.num_samples, seen["run_dir"], seen["on_gpu"]) == ("the module", 7, tmp_path, False)
    assert task.sampler["model"] == str(folder)
    assert (task.sampler["temperature"], task.sampler["top_p"], task.sampler["max_tokens"]) == (0.9, 0.95, 64)


def test_a_model_that_is_not_there_is_the_users_mistake_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kernelllm.py", "/no/such/folder"])
    assert kernelllm.main() == 2
    told = capsys.readouterr().err
    assert told.startswith("kernelllm: /no/such/folder: is neither a folder")
    assert told.count("\n") == 1


def test_an_error_that_nobody_explains_is_not_the_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> KernelLLM:
        raise ValueError("out of joint")

    monkeypatch.setattr(sys, "argv", ["kernelllm.py", "folder"])
    monkeypatch.setattr(kernelllm, "KernelLLM", broken)
    assert kernelllm.main() == 1
    assert capsys.readouterr().err == "kernelllm: out of joint\n"
