"""JSON that any parser reads: what is no finite number stands there as "nan", "inf" or "-inf".

JSON has no such numbers, and Python's `json` writes words that other parsers refuse. Knows nothing of what the numbers
mean: where a string may stand in a number's place, the reader says so by `number`.
"""

from __future__ import annotations

import json
import math
from typing import Any

_NAMES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def plain(value: Any) -> Any:
    """`value`, which is plain data, with the names of numbers that are not finite in their places."""
    match value:
        case float() if not math.isfinite(value):
            return repr(float(value))
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def dumps(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """The JSON text of plain data."""
    return json.dumps(plain(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def number(told: Any) -> Any:
    """The number that `plain` has named; what is no string is returned as it is. Raises ValueError."""
    if not isinstance(told, str):
        return told
    if told not in _NAMES:
        raise ValueError(f"{told!r:.80} is no number; a string in its place is one of {', '.join(_NAMES)}")
    return _NAMES[told]
