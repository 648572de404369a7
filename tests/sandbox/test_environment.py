"""The environment record: plain data, true of this machine, and without importing what it names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import environment


def test_record_is_plain_data_and_holds_the_layers_it_was_given() -> None:
    found = environment.record(isolation={"landlock": True, "seccomp": False})
    assert json.loads(json.dumps(found)) == found
    assert found["isolation.landlock"] is True
    assert found["isolation.seccomp"] is False
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(found["torch"], str)
    assert isinstance(found["cores"], int) and found["cores"] >= 1


def test_record_imports_none_of_the_packages_it_names() -> None:
    code = (
        "import sys; from sandbox import environment; environment.record();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'triton', 'ray', 'numpy', 'vllm')))"
    )
    root = Path(environment.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert environment.version("no-such-package-anywhere") is None


def test_gpu_answer_is_read_and_its_absence_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "NVIDIA H200, 143771, 570.86.15\nNVIDIA H200, 143771, 570.86.15\n"
    assert environment.parse_gpu(answer) == {
        "gpu": "NVIDIA H200",
        "num_gpus": 2,
        "gpu_memory_mib": 143771,
        "driver": "570.86.15",
    }
    assert environment.parse_gpu("No devices were found\n") == {}
    monkeypatch.setattr(environment, "output_of", lambda command: None)
    assert environment.gpu() == {"gpu": None, "num_gpus": 0, "gpu_memory_mib": None, "driver": None}


def test_a_folder_inside_another_checkout_has_no_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    inner = tmp_path / "site-packages"
    inner.mkdir()
    assert environment.source_tree(inner) == {"git_commit": None, "git_modified": None}


def test_a_command_that_is_missing_or_fails_gives_none() -> None:
    assert environment.output_of(["no-such-command-anywhere"]) is None
    assert environment.output_of([sys.executable, "-c", "raise SystemExit(3)"]) is None


def test_a_hidden_gpu_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "output_of", lambda command: "NVIDIA H200, 143771, 570.86.15\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment.gpu_usable()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not environment.gpu_usable()
