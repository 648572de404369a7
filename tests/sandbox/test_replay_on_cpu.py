"""What replay does around the kernels, without a GPU: second calls, poison, guard bands, inputs, comparison.

Only memory, launches and faults of CUDA's are another's; `test_gpu_verdicts.py` has those.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # most of a minute on two idle cores

ROOT = Path(__file__).parents[2]
RIGHT = (
    "buffer_put_in_its_place", "dictionary_of_outputs", "host_descriptors_of_slices", "integer_buffer",
    "last_program_reduces", "look_up_by_kernel", "nested_outputs", "scratch_in_place",
    "softmax_over_strided_rows", "state_put_in_its_place", "state_that_moves", "weights_transposed_when_constructed",
)  # fmt: skip
CAUGHT = {
    "hidden_state_forgotten": "wrong_values",
    "right_for_two_calls": "wrong_values",
    "right_on_its_first_inputs": "wrong_values",
    "state_not_moved": "wrong_values",
    "weight_used_up": "wrong_values",  # in its second call
    "works_once": "wrong_values",
    "written_between_the_inputs_elements": "wrong_values",
}


def test_replay_tells_what_is_right_from_what_is_wrong_only_in_what_it_leaves() -> None:
    command = [sys.executable, "-m", "tests.sandbox.replayed_on_cpu", *RIGHT, *CAUGHT]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=840, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads(ended.stdout) == dict.fromkeys(RIGHT) | CAUGHT
