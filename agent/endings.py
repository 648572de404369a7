"""What ends an answer besides its model and its length: a text that it comes to, or a pattern that it repeats.

The rules are vLLM's, so that an answer ends alike whatever generates it. Knows nothing of how tokens are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from agent.engine_config import RepetitionSection


class Ending:
    """Watches one answer while it grows."""

    def __init__(
        self, piece_of: Callable[[int], str], *, stop: Sequence[str], repetition: RepetitionSection | None
    ) -> None:
        """`piece_of` gives the text that a further token makes whole."""
        self._piece_of = piece_of
        self._stop = tuple(stop)
        self._repetition = repetition
        self._num_seen = 0
        self._tail = ""  # in which a stop text may have begun

    def reason(self, token_ids: Sequence[int]) -> Literal["stop", "repetition"] | None:
        """Whether the answer, which has grown since the last call, is to go no further."""
        new, self._num_seen = token_ids[self._num_seen :], len(token_ids)
        if self._stop and any(self._stops(token) for token in new):
            return "stop"
        return "repetition" if self._repetition is not None and repeats(token_ids, rule=self._repetition) else None

    def _stops(self, token: int) -> bool:
        self._tail += self._piece_of(token)
        found = any(text in self._tail for text in self._stop)
        longest = max(map(len, self._stop))
        self._tail = self._tail[-(longest - 1) :] if longest > 1 else ""
        return found


def before_stop(text: str, stop: Sequence[str]) -> str | None:
    """What stands before the first of the texts that end an answer; None where there is none of them."""
    found = [at for at in map(text.find, stop) if at >= 0]
    return text[: min(found)] if found else None


def repeats(token_ids: Sequence[int], *, rule: RepetitionSection) -> bool:
    """Whether the last tokens are a pattern of an allowed size, `min_count` times in a row.

    That is a stretch of as many patterns whose tokens each are the one that stands a pattern's size before.
    """
    for size in range(rule.min_pattern_size, rule.max_pattern_size + 1):
        length = size * rule.min_count
        if length > len(token_ids):
            return False
        if token_ids[-1] != token_ids[-1 - size]:  # nearly always
            continue
        stretch = token_ids[-length:]
        if stretch[size:] == stretch[:-size]:
            return True
    return False
