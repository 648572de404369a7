"""Occupancy against values that CUDA's own calculator and programming guide give; on a GPU, against the driver."""

from __future__ import annotations

import pytest

from sandbox.occupancy import occupancy

KIB = 1024


@pytest.mark.parametrize(
    ("capability", "registers", "shared_bytes", "num_warps", "num_blocks", "share", "limited_by"),
    [
        (80, 32, 0, 8, 8, 1.0, "warps"),
        (80, 64, 0, 4, 8, 0.5, "registers"),  # 2048 registers a warp: 8 warps in each quarter
        (80, 72, 0, 4, 7, 28 / 64, "registers"),  # 2304 a warp: 7.1 in a quarter count as 7
        (80, 255, 0, 4, 2, 8 / 64, "registers"),
        (80, 32, 48 * KIB, 8, 3, 24 / 64, "shared memory"),  # 49 KiB with what CUDA keeps; 164 KiB hold 3
        (80, 16, 163 * KIB, 4, 1, 4 / 64, "shared memory"),
        (80, 16, 0, 1, 32, 0.5, "blocks"),
        (86, 32, 0, 32, 1, 32 / 48, "warps"),  # a block of 1024 threads fills two thirds of 48 warps
        (86, 16, 0, 1, 16, 16 / 48, "blocks"),
        (89, 16, 0, 1, 24, 0.5, "blocks"),
        (89, 40, 0, 4, 12, 1.0, "warps"),
        (90, 32, 227 * KIB, 4, 1, 4 / 64, "shared memory"),
        (90, 168, 0, 4, 3, 12 / 64, "registers"),
        (100, 128, 100 * KIB, 4, 2, 8 / 64, "shared memory"),
    ],
)
def test_known_values(
    capability: int,
    registers: int,
    shared_bytes: int,
    num_warps: int,
    num_blocks: int,
    share: float,
    limited_by: str,
) -> None:
    found = occupancy(capability=capability, registers=registers, shared_bytes=shared_bytes, num_warps=num_warps)
    assert found is not None
    assert (found.num_blocks, found.limited_by) == (num_blocks, limited_by)
    assert found.share == pytest.approx(share)


def test_what_does_not_fit_at_all_has_no_block() -> None:
    too_much = occupancy(capability=90, registers=32, shared_bytes=229 * KIB, num_warps=4)
    assert too_much is not None and (too_much.num_blocks, too_much.share) == (0, 0.0)


def test_an_unknown_gpu_has_no_figure() -> None:
    assert occupancy(capability=75, registers=32, shared_bytes=0, num_warps=4) is None
