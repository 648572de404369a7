"""The same example under other names: problem, attempt, feedback and answer with all that somebody named called anew.

A model that has seen an example under one set of names learns them by heart; under many it has to copy. Nothing but
names changes, so what was judged holds: no word becomes one that stands in any of the texts, and no two the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from random import Random

from sandbox.feedback import (
    LEADS,
    MAX_FEEDBACK_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
    MAX_SOURCE_LINE_CHARACTERS,
    find_hint,
)
from sandbox.findings import MAX_SHOWN_CHARACTERS
from sandbox.types import Failure, Status
from standin.code_words import FIXED, IMPORTED, declared_in, doubtful_in, split_code, split_feedback, words_in
from standin.examples import Example
from standin.redrawing import READ, redrawn
from standin.word_roles import roles_in

_STATUSES = {lead: status for status, lead in LEADS.items()}
_SHORTENED = " ... "
_HINT = "Hint: "
_PLACE = re.compile(r"(\w+) at line (\d+)(?:: (.*))?")
_ERROR = re.compile(r"(\w+): (.*)")
_WRITE = re.compile(r"^line \d+: [\w.]+ has no \w+: write (.*)$", re.M)


class NotRenamed(StrEnum):
    """Why an example has no other naming."""

    LENGTH = "what the judge says depends on how long a name is"
    HINT = "what the judge advises depends on a name"
    PLACE = "the judge quotes a line that is not found again"
    WORDS = "no other words were found"


class Renamable:
    """An example taken apart, so that each renaming is a matter of putting it together."""

    def __init__(self, example: Example) -> None:
        self._example = example
        answers = [text for text in (example.attempt, example.answer) if text is not None]
        codes = [example.problem, *answers]
        declared = declared_in(codes)
        self._pieces = [split_code(text, declared=declared) for text in codes]
        words = {word for pieces in self._pieces for word in pieces[1::2]}
        kept = doubtful_in(codes)
        self._feedback: list[str] | None = None
        if example.feedback is not None:
            self._feedback, doubtful = split_feedback(example.feedback, words=words, declared=declared)
            kept |= doubtful | READ | IMPORTED
        self._words = words - kept
        self._taken = words_in([*codes, example.feedback or ""]) | FIXED | IMPORTED
        self._roles = roles_in(example.problem, answers)

    def renamed(self, number: int) -> Example | NotRenamed:
        """The example in its naming of that number, a function of the two."""
        example = self._example
        mark = zlib.crc32(f"{example.attempt}\n{example.answer}".encode())
        rng = Random(f"rename {example.split} {example.seed} {mark} {number}")
        failed = example.attempt is not None
        names = redrawn(self._words, roles=self._roles, taken=self._taken, failed=failed, rng=rng)
        if names is None:
            return NotRenamed.WORDS
        problem, *answers = (_joined(pieces, names) for pieces in self._pieces)
        made = replace(example, problem=problem, answer=answers[-1])
        if example.attempt is not None:
            feedback = None if self._feedback is None else _joined(self._feedback, names)
            made = replace(made, attempt=answers[0], feedback=feedback)
        return _untrue(example, made) or made


def _joined(pieces: Sequence[str], names: Mapping[str, str]) -> str:
    whole = list(pieces)
    whole[1::2] = [names.get(word, word) for word in pieces[1::2]]
    return "".join(whole)


def _untrue(example: Example, made: Example) -> NotRenamed | None:
    """Why the judge would not say of the renamed attempt what the renamed feedback says, as far as that can be told."""
    if example.attempt is None or example.feedback is None or made.attempt is None or made.feedback is None:
        return None
    if _depends_on_length(example.feedback) or _depends_on_length(made.feedback):
        return NotRenamed.LENGTH
    if _quotes(example.attempt, example.feedback) != _quotes(made.attempt, made.feedback):
        return NotRenamed.PLACE
    return None if _advice(example.feedback) == _advice(made.feedback) else NotRenamed.HINT


def _depends_on_length(feedback: str) -> bool:
    """Whether a part is left out of it, or would be if it were a little longer; or what is to be written, which stands
    whole only where it is short."""
    lines = feedback.split("\n")
    place = _PLACE.fullmatch(lines[1]) if len(lines) > 1 else None
    return (
        _SHORTENED in feedback
        or len(feedback) > MAX_FEEDBACK_CHARACTERS - MAX_MESSAGE_CHARACTERS
        or any(len(line) > MAX_MESSAGE_CHARACTERS for line in lines)
        or (place is not None and len(place[3] or "") > MAX_SOURCE_LINE_CHARACTERS)
        or any("(" not in text or len(text) > MAX_SHOWN_CHARACTERS for text in _WRITE.findall(feedback))
    )


def _quotes(attempt: str, feedback: str) -> bool:
    """Whether the line that the feedback quotes is the attempt's of that number."""
    lines = feedback.split("\n")
    place = _PLACE.fullmatch(lines[1]) if len(lines) > 1 else None
    if place is None or place[3] is None:
        return False
    whole = attempt.split("\n")
    number = int(place[2])
    return number <= len(whole) and " ".join(whole[number - 1].split()) == " ".join(place[3].split())


def _advice(feedback: str) -> str | None:
    """The hint that the judge would give on what is shown of the error; None also where it says what is wrong in the
    text, in place of a hint."""
    lines = feedback.split("\n")
    if len(lines) < 2:
        return None
    if (place := _PLACE.fullmatch(lines[1])) is not None:
        error_class, message, further = place[1], "".join(lines[2:3]), lines[3:]
    else:
        error = _ERROR.fullmatch(lines[1])
        error_class, message = (error[1], error[2]) if error is not None else ("", lines[1])
        further = lines[2:]
    if further and not further[0].startswith(_HINT):
        return None
    status = _STATUSES.get(lines[0], Status.TRACE_ERROR)
    return find_hint(status, Failure(error_class=error_class, message=message))
