"""The seeds of a judge's secret inputs. Loads nothing; what a seed makes is `reference.py`'s matter."""

from __future__ import annotations

import secrets

from sandbox.types import Problem, content_hash


def new_secret(seed: int) -> str:
    """What one judge mixes into its seeds: candidates can read a run's configuration, so its seed is no secret."""
    return f"{seed}-{secrets.token_hex(16)}"


def case_seeds(problem: Problem, *, secret: str, count: int) -> tuple[int, ...]:
    """The seeds of a problem's cases: unguessable without `secret`, the same for all candidates that one judge sees."""
    return tuple(int(content_hash(secret, problem.key, str(i))[:12], 16) for i in range(count))


def called_again(num_cases: int) -> int:
    """Which of a problem's cases has its module called again on other inputs: the second, if there is one. It is a
    stress, so that no weight is as construction made it, and that the module changes one is seen."""
    return min(1, num_cases - 1)
