"""What a family of problems gives: a composition, a problem for it, and answers to that problem."""

from __future__ import annotations

from random import Random
from typing import Protocol

from standin.answer_text import Answer, Dialect
from standin.problem_text import Module
from standin.shapes import Size


class Task(Protocol):
    """A problem that is settled but for how its answer is written."""

    @property
    def module(self) -> Module: ...

    def answer(self, rng: Random, dialect: Dialect) -> Answer: ...


class Family(Protocol):
    """A family of problems."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float:
        """How often it is drawn, beside the others' weights."""
        ...

    def draw(self, rng: Random) -> tuple[str, ...]:
        """The operations of a problem, in order: its composition."""
        ...

    def settle(self, operations: tuple[str, ...], rng: Random, size: Size) -> Task:
        """A problem of that composition; the same draws are made for either size."""
        ...
