"""Numbers that JSON has not: how they are written, that they come back, and that nothing else passes for one."""

from __future__ import annotations

import json
import math

import pytest

from sandbox import strict_json
from sandbox.types import Correctness, Failure, Mismatch, Status, Verdict


def refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def wrong(*, expected: float, got: float, ratio: float | None) -> Verdict:
    mismatch = Mismatch(output="output", share_wrong=0.5, first_bad_index=(1, 2), expected=expected, got=got)
    return Verdict(
        candidate_id="c",
        status=Status.WRONG_VALUES,
        failure=Failure(error_class="nan", message="inf", mismatch=mismatch),
        correctness=Correctness(
            checked_by="interpret", seeds=(1,), weights="none", max_error_ratio=ratio, rms_error_ratio=None
        ),
    )


@pytest.mark.parametrize("got", [math.inf, -math.inf, 1.5, 5e-324])
@pytest.mark.parametrize("ratio", [math.inf, 2.5, None])
def test_a_verdict_comes_back_from_strict_json_as_it_was(got: float, ratio: float | None) -> None:
    verdict = wrong(expected=-math.inf, got=got, ratio=ratio)
    text = strict_json.dumps(verdict.to_json())
    assert Verdict.from_json(json.loads(text, parse_constant=refuse)) == verdict


def test_nan_comes_back_from_its_name_and_from_what_older_files_hold() -> None:
    raw = wrong(expected=math.nan, got=1.0, ratio=None).to_json()
    assert raw["failure"]["mismatch"]["expected"] == "nan"
    for told in (raw, json.loads(json.dumps(raw).replace('"expected": "nan"', '"expected": NaN'))):
        failure = Verdict.from_json(told).failure
        assert failure is not None and failure.mismatch is not None and math.isnan(failure.mismatch.expected)
        assert failure.error_class == "nan", "a word that is one stays one"


@pytest.mark.parametrize("word", ["NaN", "infinity", "1.5", ""])
def test_no_other_word_is_a_number(word: str) -> None:
    raw = wrong(expected=math.nan, got=1.0, ratio=None).to_json()
    raw["failure"]["mismatch"]["expected"] = word
    with pytest.raises(ValueError, match="is no number"):
        Verdict.from_json(raw)
