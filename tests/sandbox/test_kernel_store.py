"""The store of compiled kernels: what is put in comes out, damage is noticed, bounds hold; and what its key covers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.kernel_recipe import RECIPE_FIELDS, recipe_key, recipe_of
from sandbox.kernel_store import FIGURES, CompiledKernel, KernelStore
from sandbox.plan import Kernel, decode
from sandbox.tracer import Traced, Tracer
from sandbox.types import Candidate, Operator, Problem
from tests.judge_settings import judge_settings


def compiled(size: int = 100) -> CompiledKernel:
    return CompiledKernel(cubin=os.urandom(size), figures=dict.fromkeys(FIGURES, 1) | {"dots": ["tf32"]})


def store(folder: Path | None, *, memory_bytes: int = 1 << 20, disk_bytes: int = 1 << 20) -> KernelStore:
    return KernelStore(folder, memory_bytes=memory_bytes, disk_bytes=disk_bytes)


def the_file(folder: Path) -> Path:
    (file,) = (path for path in folder.glob("*/*") if path.is_file())
    return file


def test_another_process_finds_what_was_put_in(tmp_path: Path) -> None:
    kernel = compiled()
    store(tmp_path).put("abc", kernel)
    assert store(tmp_path).get("abc") == kernel
    assert store(tmp_path).get("abd") is None
    assert store(None).get("abc") is None


@pytest.mark.parametrize("at", [3, 80, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    store(tmp_path).put("abc", compiled())
    file = the_file(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)
    assert store(tmp_path).get("abc") is None
    assert not file.exists()


def test_a_cut_file_and_one_under_another_name_are_noticed(tmp_path: Path) -> None:
    store(tmp_path).put("abc", compiled())
    file = the_file(tmp_path)
    file.rename(file.with_name("abd"))
    assert store(tmp_path).get("abd") is None
    store(tmp_path).put("abc", compiled())
    file.write_bytes(file.read_bytes()[:70])
    assert store(tmp_path).get("abc") is None


def test_memory_and_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.kernel_store._TRIM_EVERY", 1)
    small = store(None, memory_bytes=250)
    for key in ("a", "b", "c"):
        small.put(key, compiled())
    assert small.get("a") is None and small.get("b") is not None and small.get("c") is not None
    disk = store(tmp_path, disk_bytes=2_000)
    for number in range(20):
        disk.put(f"{number:03}", compiled())
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 2_000


def test_a_disk_that_fails_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    full = store(tmp_path / "file")
    kernel = compiled()
    full.put("abc", kernel)
    assert full.get("abc") == kernel


@pytest.fixture(scope="module")
def kernel(trace: Callable[[str, str], Traced], sources: dict[str, str]) -> Kernel:
    traced = trace(sources["relu"], sources["relu_answer"])
    assert traced.plan is not None
    return decode(traced.plan).kernels[0]


CHANGES: dict[str, Any] = {
    "name": "other", "functions": {}, "names": {}, "noinline": ("relu_kernel",), "params": (), "constants": {},
    "divisible": (), "options": {},
}  # fmt: skip


@pytest.mark.parametrize("field", RECIPE_FIELDS)
def test_the_key_covers_the_recipe(kernel: Kernel, field: str) -> None:
    changed = dataclasses.replace(kernel, **{field: CHANGES[field]})
    assert recipe_key(recipe_of(changed, capability=90)) != recipe_key(recipe_of(kernel, capability=90))


def test_the_key_covers_each_option_the_target_and_the_compiler(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {recipe_key(recipe_of(kernel, capability=capability)) for capability in (80, 90)}
    for name in kernel.options:
        changed = dataclasses.replace(kernel, options={**kernel.options, name: "other"})
        keys.add(recipe_key(recipe_of(changed, capability=90)))
    monkeypatch.setattr("sandbox.environment.version", lambda _: "0.0")
    keys.add(recipe_key(recipe_of(kernel, capability=90)))
    assert len(keys) == len(kernel.options) + 3


def test_the_key_does_not_depend_on_what_a_compiler_made_of_it(kernel: Kernel) -> None:
    changed = dataclasses.replace(kernel, cubin=b"\x7fELF", num_registers=7, entry="other")
    assert recipe_key(recipe_of(changed, capability=90)) == recipe_key(recipe_of(kernel, capability=90))


def test_a_kernel_is_compiled_once_for_all_candidates_and_runs(tmp_path: Path, sources: dict[str, str]) -> None:
    settings = judge_settings(cache_dir=str(tmp_path))
    problem = Problem(id="problem", source=sources["relu"], origin="test")
    plans = []
    for comment in ("# one", "# two"):
        with Tracer(settings) as tracer:
            source = f"{sources['relu_answer']}\n{comment}\n"
            candidate = Candidate(problem_id="problem", source=source, operator=Operator.DRAFT)
            traced = tracer.trace(problem, candidate)
        assert traced.plan is not None
        plans.append(traced)
    file = the_file(tmp_path / "kernels")
    assert plans[0].plan == plans[1].plan and plans[0].plan_hash == plans[1].plan_hash
    assert decode(plans[0].plan or b"").kernels[0].cubin in file.read_bytes()
    assert plans[1].stage_seconds["compile"] < plans[0].stage_seconds["compile"]
