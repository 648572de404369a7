"""`kernelloop sample` and what `doctor` says of a model, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent import cli, sampler_check
from agent.doctor import Finding, State

PROBLEM = """import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x


def get_inputs():
    return [torch.rand(4)]


def get_init_inputs():
    return []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A problem, and a configuration with two recorded answers to it."""
    (tmp_path / "easy.py").write_text(PROBLEM)
    lines = [
        {"id": "1", "problem": "easy", "operator": "draft", "completion": "```\nclass ModelNew:\n    pass\n```\n"},
        {"id": "2", "problem": "easy", "operator": "draft", "completion": "no \x1b[31mcode", "finish_reason": "length"},
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.yaml").write_text("problems: elsewhere\nsampler: {kind: recorded, path: answers.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_answers_of_a_configurations_sampler_are_shown_and_summed_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sample", "easy.py", "-n", "3", "--config", "config.yaml"]) == 0
    shown, told = capsys.readouterr()
    assert told == "asking for 3 answer(s) ...\n"
    assert "class ModelNew:" in shown
    assert "\x1b[31m" not in shown  # what a model writes does not reach the terminal as it is
    assert "2 of 3 answers, 1 with code, 1 cut off" in " ".join(shown.split())
    assert "(estimated)" in shown
    assert "was asked for" in " ".join(shown.split())  # the third was not recorded


def test_a_checkpoint_alone_is_enough_and_json_lines_hold_everything(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.waiting.PLAIN_SECONDS", 0.001)
    arguments = ["sample", "easy.py", "-n", "3", "--model", str(tiny_checkpoint), "--json", "sampler.max_tokens=9"]
    assert cli.main([*arguments, "sampler.device=cpu"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith(f"loading {tiny_checkpoint}, some seconds")  # before the seconds pass
    assert "\nloading ... " in shown.err and "\n0 of 3 answers ... " in shown.err
    *completions, summary = [json.loads(line) for line in shown.out.splitlines()]
    assert sorted(line["number"] for line in completions) == [0, 1, 2]
    for line in completions:
        assert line["completion"]["completion_tokens"] == len(line["completion"]["token_ids"]) <= 9
    assert summary["answers"] == summary["asked"] == 3
    assert summary["completion_tokens"] == sum(line["completion"]["completion_tokens"] for line in completions)
    assert summary["tokens_per_second"] == pytest.approx(summary["completion_tokens"] / summary["seconds"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["easy.py"], "give either --config CONFIG.yaml or --model FOLDER"),
        (["easy.py", "--model", "no/where"], "cannot be fetched from the hub"),
        (["easy.py", "--model", "."], "config.json: is missing"),
        (["none.py", "--config", "config.yaml"], "kernelloop: none.py: "),
        (["many", "--config", "config.yaml"], "many: holds 2 problems, and sample takes one: one.py, two.py"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    def no_network(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    (folder / "many").mkdir()
    for name in ("one.py", "two.py"):
        (folder / "many" / name).write_text(PROBLEM)
    assert cli.main(["sample", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_device_that_is_not_there_is_found_before_anything_is_loaded(
    folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)  # no GPU, on GPU machines too
    assert cli.main(["sample", "easy.py", "--model", str(tiny_checkpoint), "sampler.device=cuda"]) == 2
    told = "kernelloop: sampler.device: cuda needs a GPU and none is available; allowed here: auto, cpu\n"
    assert capsys.readouterr().err == told


def findings(config: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in sampler_check.examine(config)}


def test_doctor_says_what_a_checkpoint_is_and_how_its_prompts_begin(tiny_checkpoint: Path) -> None:
    found = findings(sampler_check.sections_of(None, model=str(tiny_checkpoint)))
    assert {finding.state for finding in found.values()} == {State.OK}
    assert found["checkpoint"].found.startswith("LlamaForCausalLM in ")
    assert found["context"].found == "512 tokens"
    assert found["template"].found == "the checkpoint's prompt_template.txt"
    assert found["begin of text"].found.startswith("as_shipped: 2 in a prompt, which begins <|begin_of_text|> ")
    assert "1 <|end_of_text|>" in found["ends an answer"].found


@pytest.mark.parametrize(
    ("name", "content", "finding", "says"),
    [
        ("model.safetensors", None, "weights", "model.safetensors: is missing"),
        ("model.safetensors", "version https://git-lfs", "weights", "a pointer of git-lfs"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "part-2.safetensors"}}',
            "weights",
            "part-2.safetensors",
        ),
        ("prompt_template.txt", "no slot", "template", "needs exactly one {}"),
        ("repair.txt", "{{task}}", "template", "repair.txt: never uses"),
        ("tokenizer.json", "{}", "tokeniser", "is no tokeniser"),
        ("config.json", "{}", "checkpoint", "architectures: names no model"),
    ],
)
def test_doctor_says_what_is_wrong_with_a_checkpoint_and_what_mends_it(
    tmp_path: Path, tiny_checkpoint: Path, name: str, content: str | None, finding: str, says: str
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    found = findings(sampler_check.sections_of(None, model=str(folder)))[finding]
    assert found.state is State.MISSING
    assert says in found.found
    assert found.consequence


@pytest.mark.parametrize(
    ("name", "content", "cause", "unknown"),
    [
        ("tokenizer.json", None, "tokeniser", "context, ends an answer, template, begin of text"),
        ("prompt_template.txt", "no slot", "template", "begin of text"),
    ],
)
def test_doctor_tells_a_cause_once_and_names_what_it_could_not_look_at(
    tmp_path: Path, tiny_checkpoint: Path, name: str, content: str | None, cause: str, unknown: str
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    found = findings(sampler_check.sections_of(None, model=str(folder)))
    assert [each.name for each in found.values() if each.state is State.MISSING] == [cause]
    assert found["not looked at"].found == unknown
    assert not set(unknown.split(", ")) & set(found)


def test_doctor_notices_a_tokeniser_that_is_not_the_models(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    found = findings(sampler_check.sections_of(None, model=str(folder)))["tokeniser"]
    assert found.state is State.MISSING
    assert "the model 100" in found.found


def test_doctor_takes_a_configuration_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "http.yaml").write_text(
        "problems: easy.py\nsampler: {kind: http, base_url: 'http://localhost:8000', model: m, api_key_env: NO_SUCH}\n"
    )
    assert (
        "NO_SUCH is not set" in findings(sampler_check.sections_of(folder / "http.yaml", model=None))["settings"].found
    )
    assert cli.main(["doctor", "http.yaml"]) == 2
    assert "what mends it" in " ".join(capsys.readouterr().out.split())
