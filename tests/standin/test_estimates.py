"""Intervals, and what drawing again would have given."""

from __future__ import annotations

import pytest

from standin.estimates import interval, passed_within, ratio_of_sums


def test_an_interval_narrows_with_more_problems_and_holds_the_figure() -> None:
    def mean(values: object) -> float:
        assert isinstance(values, list)
        return sum(values) / len(values)

    few = interval([0.0, 1.0] * 10, figure=mean, seed=0)
    many = interval([0.0, 1.0] * 160, figure=mean, seed=0)
    assert few.low < many.low < 0.5 < many.high < few.high
    assert (few.value, many.value) == (0.5, 0.5)
    assert few.high - few.low == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.15)  # the normal approximation
    assert interval([0.0, 1.0] * 10, figure=mean, seed=0) == few


def test_without_problems_there_is_no_interval() -> None:
    with pytest.raises(ValueError, match="needs items"):
        interval([], figure=lambda _: 0.0, seed=0)


def test_a_ratio_of_sums_weighs_by_size() -> None:
    assert ratio_of_sums([(1.0, 1.0), (0.0, 3.0)]) == 0.25
    assert ratio_of_sums([]) == 0.0


@pytest.mark.parametrize(
    ("spend", "draws", "chance"),
    [
        (100, [(60, False), (60, True)], 40 / 60),  # the second draw is paid for in part
        (120, [(60, False), (60, True)], 1.0),
        (50, [(60, False), (60, True)], 0.0),
        (30, [(60, True)], 0.5),
        (120, [(60, False), (60, False)], 0.0),
        (121, [(60, False), (60, False)], None),  # nobody knows what the next would have been
        (500, [(60, False), (60, True)], None),  # nor is it left in for having passed
        (120, [(60, True), (60, False)], 1.0),
    ],
)
def test_drawing_again_is_paid_in_tokens(spend: float, draws: list[tuple[int, bool]], chance: float | None) -> None:
    assert passed_within(spend, draws=draws) == chance
