"""A folder in which whole runs go through the command line, with recorded answers and a scripted judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import run_command
from agent.pool import Pool
from tests.agent.word_pool import PROBLEM, WordPool


def answer(text: str) -> str:
    return f"```python\n# {text}\nclass ModelNew:\n    pass\n```\n"


def command_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two problems, of which `easy` is solved by its first answer and `hard` by a repair, and a configuration."""
    problems = root / "problems"
    problems.mkdir()
    for name in ("easy", "hard"):
        (problems / f"{name}.py").write_text(PROBLEM)
    lines = [
        {"id": "e1", "problem": "easy", "operator": "draft", "completion": answer("GOOD")},
        {"id": "h1", "problem": "hard", "operator": "draft", "completion": answer("BAD")},
        {"id": "h2", "problem": "hard", "operator": "repair", "parent": "h1", "completion": answer("GOOD now")},
    ]
    (root / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "config.yaml").write_text(
        "problems: problems\nsampler: {kind: recorded, path: answers.jsonl}\nray: {pool: serial}\nrun_dir: out\n"
    )
    monkeypatch.chdir(root)
    monkeypatch.setattr(run_command, "open_pool", scripted_pool)
    monkeypatch.setattr("sandbox.environment.output_of", lambda command: None)  # no GPU, on GPU machines too
    return root


def scripted_pool(config: object, *, tell: object) -> Pool:
    return WordPool()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
