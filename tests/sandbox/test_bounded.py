"""What a bounded mapping keeps and what it forgets."""

from __future__ import annotations

import pytest

from sandbox.bounded import Recent


def test_what_is_longest_unused_goes_first() -> None:
    kept: Recent[str, int] = Recent(limit=2)
    kept["a"], kept["b"] = 1, 2
    assert kept.get("a") == 1
    kept["c"] = 3
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)


def test_it_never_holds_more_than_its_limit() -> None:
    kept: Recent[int, int] = Recent(limit=3)
    for number in (*range(100), 99, 98):
        kept[number] = number
    assert len(kept) == 3 and sorted(kept.values()) == [97, 98, 99]
    kept.pop(98)
    kept.pop(98)
    assert kept.get(98) is None and len(kept) == 2


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Recent(limit=0)
