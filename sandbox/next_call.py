"""A further call of one of a problem's modules, on other inputs, for candidates that keep something between calls.

What it must answer is made when it is first asked for, since few problems need it, and kept, since then every candidate
may. Knows nothing of plans.
"""

from __future__ import annotations

import torch

from sandbox.reference import Case, Reference
from sandbox.seal import Seal


class NextCall:
    """What comes after `case` in the life of its module. `seal`, if there is one, is put on what is kept."""

    def __init__(self, reference: Reference, case: Case, *, seal: Seal | None = None) -> None:
        self._reference, self._case, self._seal = reference, case, seal
        self._met: Case | None = None

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Of the problem's own distribution, the same each time."""
        return self._reference.other_inputs(self._case) if self._met is None else self._met.inputs

    def answered(self) -> Case:
        """What the call meets and must answer. Raises InadmissibleProblem where the reference fails in it."""
        if self._met is None:
            met = self._reference.following(self._case, self.inputs())
            if self._seal is not None:
                self._seal.add((*met.inputs, *met.weights.values(), *met.attributes.values()))
            self._met = met
        return self._met
