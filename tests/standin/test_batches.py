"""Batches: every example in each epoch, few shapes, and an order that only the seed decides."""

from __future__ import annotations

import random

import pytest

from standin.batches import WIDTH_STEP, Batch, plan_epoch, widths_of

LENGTHS = [random.Random(number).randint(30, 900) for number in range(500)]
WIDTHS = widths_of(LENGTHS, count=4)


def plan(*, seed: int = 1, epoch: int = 0) -> list[Batch]:
    return plan_epoch(LENGTHS, widths=WIDTHS, tokens_per_batch=8192, seed=seed, epoch=epoch)


def test_widths_are_few_and_hold_the_longest() -> None:
    assert len(WIDTHS) == 4
    assert list(WIDTHS) == sorted(WIDTHS)
    assert max(LENGTHS) <= WIDTHS[-1] < max(LENGTHS) + WIDTH_STEP
    assert all(width % WIDTH_STEP == 0 for width in WIDTHS)
    assert widths_of([5], count=4) == (WIDTH_STEP,)


def test_every_example_fits_its_batch_and_comes_once_but_for_filling() -> None:
    rows = [row for batch in plan() for row in batch.rows]
    assert set(rows) == set(range(len(LENGTHS)))
    assert len(rows) - len(set(rows)) < 8192 // WIDTHS[-1]
    assert all(LENGTHS[row] <= batch.width for batch in plan() for row in batch.rows)


def test_each_width_has_one_shape() -> None:
    assert {batch.width: len(batch.rows) for batch in plan()} == {width: 8192 // width for width in WIDTHS}
    assert all(len(batch.rows) == 8192 // batch.width for batch in plan())


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 1}])
def test_seed_and_epoch_decide_the_order(change: dict[str, int]) -> None:
    assert plan() == plan()
    assert plan(**change) != plan()
    assert len(plan(**change)) == len(plan())


def test_fewer_examples_than_rows_fill_one_batch() -> None:
    (batch,) = plan_epoch([10, 20], widths=(64,), tokens_per_batch=64 * 5, seed=0, epoch=0)
    assert len(batch.rows) == 5
    assert set(batch.rows) == {0, 1}
