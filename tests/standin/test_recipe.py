"""The recipe: a step that fails ends it, and what is there by then is kept."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "standin" / "recipe.sh"


def test_a_step_that_fails_ends_it_and_what_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "first" / "state.pt").write_bytes(b"not to be kept")
    out = tmp_path / "kept"
    environment = {**os.environ, "PYTHON": "/bin/false", "OUT": str(out)}
    done = subprocess.run(["bash", RECIPE, tmp_path, "60", "1"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "looking at what is installed FAILED" in done.stdout
    with tarfile.open(out / "checkpoint.tar.gz") as kept:
        assert [Path(name).name for name in kept.getnames() if not name.endswith(".")] == ["model.safetensors"]
    assert "judged examples" not in (out / "recipe.log").read_text(encoding="utf-8")


def test_without_arguments_it_says_how_it_is_called() -> None:
    done = subprocess.run(["bash", RECIPE], capture_output=True, text=True)
    assert done.returncode == 2 and "WORK SECONDS CORES" in done.stdout
