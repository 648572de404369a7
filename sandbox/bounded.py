"""A mapping that forgets: it keeps what was used last, up to a stated number of entries.

Knows nothing of what it keeps. Not for use from several threads.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """At most `limit` entries; the one longest unused goes first."""

    def __init__(self, *, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self._entries: OrderedDict[KeyT, ValueT] = OrderedDict()

    def get(self, key: KeyT) -> ValueT | None:
        """The entry, which counts as used now; None where there is none."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def __setitem__(self, key: KeyT, value: ValueT) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def pop(self, key: KeyT) -> None:
        """Forgets an entry, if it is there."""
        self._entries.pop(key, None)

    def values(self) -> list[ValueT]:
        """What is kept, the longest unused first."""
        return list(self._entries.values())

    def __contains__(self, key: object) -> bool:
        """Whether it is there; that is no use of it."""
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
