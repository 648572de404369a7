"""A number in a kernel is a whole number to Python, whatever Triton and NumPy are there."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from triton.runtime import interpreter

from sandbox import interpreter_index

Triton: Any = interpreter


def test_a_tensor_of_one_number_counts_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tensor:
        handle = SimpleNamespace(data=np.array([3]))

    monkeypatch.setattr(Triton, "_patch_lang_tensor", Triton._patch_lang_tensor)  # put back after the test
    interpreter_index.install()
    scope = Triton._LangPatchScope()
    Triton._patch_lang_tensor(Tensor, scope)
    number: Any = Tensor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where NumPy does not refuse yet, it warns
        assert list(range(number)) == [0, 1, 2]
    scope.restore()
    assert not hasattr(Tensor, "__index__")
