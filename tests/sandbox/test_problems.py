"""Problems are read from files, folders, globs and KernelBench checkouts, and faults are told one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.problems import ProblemError, load_problems, scan_problems

RELU = '''
import torch
import torch.nn as nn

class Model(nn.Module):
    """A docstring with a stray escape: \\d."""
    def forward(self, x):
        return torch.relu(x)

def get_inputs():
    return [torch.rand(4, 4)]

def get_init_inputs():
    return []
'''


def write(path: Path, text: str = RELU) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for level, stem in [(1, "2_Matmul"), (1, "10_Softmax_"), (2, "1_Conv"), (3, "1_MLP"), (4, "1_bert-base")]:
        write(root / "KernelBench" / f"level{level}" / f"{stem}.py")
    return root


def test_one_file_is_one_problem_named_after_its_stem(tmp_path: Path) -> None:
    path = write(tmp_path / "relu.py")
    (problem,) = load_problems(path)
    assert (problem.id, problem.source, problem.origin) == ("relu", RELU, path.as_posix())


def test_a_checkout_gives_its_first_three_levels_in_the_order_of_their_numbers(checkout: Path) -> None:
    ids = [problem.id for problem in load_problems(checkout)]
    assert ids == ["level1_2_Matmul", "level1_10_Softmax_", "level2_1_Conv", "level3_1_MLP"]
    assert [problem.id for problem in load_problems(checkout / "KernelBench")] == ids


def test_levels_are_picked_by_number(checkout: Path) -> None:
    ids = [problem.id for problem in load_problems(str(checkout), levels=[4, 2])]
    assert ids == ["level4_1_bert-base", "level2_1_Conv"]


@pytest.mark.parametrize("path", ["KernelBench/level1/2_Matmul.py", "KernelBench/level1/2*.py"])
def test_a_file_of_a_checkout_has_the_same_id_however_it_is_named(checkout: Path, path: str) -> None:
    assert [problem.id for problem in load_problems(checkout / path)] == ["level1_2_Matmul"]


def test_a_folder_leaves_out_other_files(tmp_path: Path) -> None:
    write(tmp_path / "b.py")
    write(tmp_path / "a.py")
    write(tmp_path / "_shared.py", "x = 1")
    write(tmp_path / "README.md", "words")
    assert [problem.id for problem in load_problems(tmp_path)] == ["a", "b"]


def test_a_glob_tells_equal_names_apart_by_their_folder(tmp_path: Path) -> None:
    for name in ["small/relu.py", "large/relu.py", "large/other name.py"]:
        write(tmp_path / name)
    ids = [problem.id for problem in load_problems(f"{tmp_path}/**/*.py")]
    assert ids == ["other_name", "large_relu", "small_relu"]


def test_ids_that_still_collide_are_a_fault(tmp_path: Path) -> None:
    write(tmp_path / "a b.py")
    write(tmp_path / "a_b.py")
    problems, faults = scan_problems(tmp_path)
    assert len(problems) == 1
    assert "already belongs to" in faults[0].reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RELU.replace("class Model", "class Net"), "lacks class Model at top level"),
        (RELU.replace("def get_inputs", "def inputs"), "lacks get_inputs() at top level"),
        (
            RELU.replace("def get_inputs()", "def get_inputs(n, *, k)"),
            "get_inputs() must be callable without arguments",
        ),
        (RELU + "\ndef broken(:\n", "does not parse: invalid syntax (line 16)"),
        ("x = '\0'", "does not parse"),
        ("", "lacks class Model and get_inputs() and get_init_inputs()"),
    ],
)
def test_a_file_that_is_no_problem_is_told_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    good, bad = write(tmp_path / "good.py"), write(tmp_path / "bad.py", text)
    problems, faults = scan_problems(tmp_path)
    assert [problem.origin for problem in problems] == [good.as_posix()]
    assert [fault.path for fault in faults] == [str(bad)]
    assert reason in faults[0].reason
    with pytest.raises(ProblemError) as raised:
        load_problems(tmp_path)
    assert str(bad) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_not_text_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.py").write_text("#" * (1 << 21))
    _, faults = scan_problems(tmp_path)
    assert [fault.reason.split("(")[0].strip() for fault in faults] == ["is not UTF-8", "is larger than 1048576 bytes"]


@pytest.mark.parametrize(
    ("path", "levels", "message"),
    [
        ("absent.py", None, "no such file or folder"),
        ("*.absent", None, "no .py file there"),
        ("empty", None, "no .py file there"),
        ("empty", [1], "not"),
        ("checkout", [1, 7], "no level 7; levels there: 1, 2, 3, 4"),
        ("checkout", [], "no level was picked"),
    ],
)
def test_a_path_without_problems_is_one_line_that_names_it(
    tmp_path: Path, checkout: Path, path: str, levels: list[int] | None, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProblemError) as raised:
        load_problems(tmp_path / path, levels=levels)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / path))
    assert "\n" not in str(raised.value)


def test_the_problem_sets_of_this_repository_load_and_differ_in_nothing_but_constants() -> None:
    configs = Path(__file__).parents[2] / "configs"
    small, large = load_problems(configs / "problems"), load_problems(configs / "problems_large")
    assert len(small) >= 14
    assert [problem.id for problem in small] == [problem.id for problem in large]
    for one, other in zip(small, large, strict=True):
        assert _without_constants(one.source) == _without_constants(other.source)


def _without_constants(source: str) -> list[str]:
    return [line.partition(" = ")[0] if line[:1].isupper() else line for line in source.splitlines()]
