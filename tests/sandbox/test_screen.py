"""Texts that are no program are turned away with a status and a place; everything else goes on to tracing."""

from __future__ import annotations

import pytest

from sandbox.screen import screen
from sandbox.types import Status


@pytest.mark.parametrize(
    "source",
    [
        "class ModelNew:\n    pass\n",
        "class A:\n    pass\nModelNew = A\n",
        "try:\n    import triton\nexcept ImportError:\n    pass\nelse:\n    class ModelNew:\n        pass\n",
        "from x import y as ModelNew",
        "pattern = '\\d'\nclass ModelNew:\n    pass\n",
        "class ModelNew:  # no kernel anywhere: the plan decides\n    forward = None\n",
    ],
)
def test_a_program_goes_on(source: str) -> None:
    assert screen(source) is None


@pytest.mark.parametrize(
    ("source", "error_class"),
    [
        (None, "NoCode"),
        (" \n\n", "NoCode"),
        ("import torch\n", "NoModelNew"),
        ("def f():\n    class ModelNew:\n        pass\n", "NoModelNew"),
        ("class Model:\n    ModelNew = 1\n", "NoModelNew"),
    ],
)
def test_nothing_to_run_is_no_kernel(source: str | None, error_class: str) -> None:
    result = screen(source)
    assert result is not None
    assert (result.status, result.failure.error_class) == (Status.NO_KERNEL, error_class)


def test_a_syntax_error_is_rejected_with_its_own_line() -> None:
    result = screen("import torch\n\nclass ModelNew:\n    def forward(self, x:\n        return x\n")
    assert result is not None
    assert result.status is Status.REJECTED
    failure = result.failure
    assert (failure.error_class, failure.line_number) == ("SyntaxError", 4)
    assert failure.source_line == "def forward(self, x:"


def test_wrong_indentation_keeps_its_class() -> None:
    result = screen("class ModelNew:\n  x = 1\n   y = 2\n")
    assert result is not None
    assert (result.status, result.failure.error_class) == (Status.REJECTED, "IndentationError")


@pytest.mark.parametrize(
    "source",
    [
        "(" * 100_000,
        "-" * 100_000 + "1",
        "a" + " + a" * 100_000,
        "x" + ".a" * 100_000,
        "lambda: " * 20_000 + "1",
        "x = '\0'",
        "x = " + "9" * 5_000,
        "#" * (1 << 21),
    ],
)
def test_hostile_texts_are_rejected_with_a_short_failure(source: str) -> None:
    result = screen(source)
    assert result is not None
    assert result.status is Status.REJECTED
    assert len(result.failure.source_line or "") <= 200
