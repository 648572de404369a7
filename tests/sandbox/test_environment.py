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


GPUS = """0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559, Disabled
1, GPU-ab22, NVIDIA H100 80GB HBM3, [N/A], Enabled
No devices were found
"""


def test_each_gpu_is_read_and_found_by_index_or_uuid() -> None:
    first, second = environment.parse_gpus(GPUS)
    assert (first.index, first.uuid, first.memory_mib, first.sliced) == (0, "GPU-aa11", 81559, False)
    assert (second.memory_mib, second.sliced) == (None, True)
    among = (first, second)
    named = {name: environment.gpu_named(name, among=among) for name in ("1", "GPU-aa11", "GPU-ab", "GPU-a", "7", "")}
    assert named == {"1": second, "GPU-aa11": first, "GPU-ab": second, "GPU-a": None, "7": None, "": None}
    assert environment.gpu_named("MIG-cc33", among=among) is None


def test_what_is_visible_is_what_cuda_would_see(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = among = environment.parse_gpus(GPUS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment.visible_gpus(among) == among
    for names, seen in (("1,GPU-aa11", (second, first)), ("", ()), ("0,7,1", (first,)), ("MIG-cc33", ())):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        assert environment.visible_gpus(among) == seen


def test_a_mig_slice_goes_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert environment.gpu_uuid("aa11") == "GPU-aa11"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cc33")
    assert environment.gpu_uuid("aa11") == "MIG-cc33"


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
