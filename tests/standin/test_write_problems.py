"""Held-out problems as files: different ones, from all families, in the form that a run reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.problems import scan_problems
from standin.pairs import FAMILIES
from standin.write_problems import chosen, name_of, write_problems

ROOT = Path(__file__).parents[2]


def test_families_take_turns_and_nothing_comes_twice(tmp_path: Path) -> None:
    pairs = chosen(len(FAMILIES) + 2, start=0, size="small")
    assert {pair.family for pair in pairs.values()} == set(FAMILIES)
    assert len({pair.problem for pair in pairs.values()}) == len(pairs) == len(FAMILIES) + 2
    write_problems(pairs, tmp_path)
    problems, faults = scan_problems(str(tmp_path), levels=None)
    assert faults == []
    assert {problem.id: problem.source for problem in problems} == {n: pair.problem for n, pair in pairs.items()}


def test_large_problems_have_the_same_names() -> None:
    small, large = (chosen(3, start=5, size=size) for size in ("small", "large"))
    assert list(small) == list(large)
    assert all(small[name].problem != large[name].problem for name in small)


def test_more_problems_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("standin.write_problems.MAX_LOOKED_AT", 5)
    with pytest.raises(ValueError, match="problems among 5 seeds, not 12"):
        chosen(12, start=0, size="small")


def test_what_the_configuration_runs_is_held_out() -> None:
    written = {path.stem for path in (ROOT / "configs" / "problems_standin").glob("*.py")}
    known = {name_of(seed) for seed in range(300)}
    assert written
    assert written <= known
