"""Who may import whom, and that importing our packages loads nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("agent", "sandbox", "standin", "strategies")
FILES = [path.relative_to(ROOT) for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
HEAVY = ("torch", "triton", "ray", "vllm", "transformers", "jinja2", "pygments", "pyarrow", "optuna")
HOMES = {
    "ray": {Path(f"agent/{name}.py") for name in ("ray_cluster", "ray_crew", "ray_engines", "ray_pool")},
    "vllm": {Path("agent/vllm_engine.py")},
    "transformers": {Path("agent/decoding.py")},
    "jinja2": {Path("agent/html_page.py")},
    "pygments": {Path("agent/source_view.py")},
    "pyarrow": {Path("agent/export_command.py")},
    "optuna": {Path("agent/tuning_points.py")},
}
TRAINING = ("checkpoint.py", "corpus.py", "model.py", "train.py", "trainer.py", "training.py")
# Runs or trains a model, never a candidate.
TORCH_OUTSIDE_SANDBOX = {Path("agent/decoding.py"), *(Path("standin", name) for name in TRAINING)}


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(path: Path, name: str) -> bool:
    package, (top, *rest) = path.parts[0], name.split(".")
    if top in HOMES:
        return path in HOMES[top]
    if package == "standin":
        return True
    if top == "standin":
        return False
    if top in ("torch", "triton"):
        return package == "sandbox" or (top == "torch" and path in TORCH_OUTSIDE_SANDBOX)
    if package == "agent":
        return True
    if package == "strategies":
        stdlib_or_own = top in sys.stdlib_module_names or top == "strategies"
        return stdlib_or_own or (top == "sandbox" and rest[:1] == ["types"])
    return top not in ("agent", "strategies", "pydantic", "typer", "rich", "httpx")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_arrows(path: Path) -> None:
    assert [name for name in imported(path) if not allowed(path, name)] == []


def test_importing_our_packages_loads_nothing_heavy() -> None:
    code = f"import agent, strategies, sandbox, standin, sys; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.strip() == "[]"


def test_making_and_training_the_stand_in_needs_no_pydantic() -> None:
    """A GPU machine may have torch, triton, tokenizers and safetensors alone."""
    names = "standin.make, standin.prepare, standin.train"
    code = f"import sys; sys.modules['pydantic'] = sys.modules['ray'] = sys.modules['yaml'] = None; import {names}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
