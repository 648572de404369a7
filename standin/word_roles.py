"""What the words in a problem's and its answers' texts are: kernels, functions, attributes, sizes, tensors.

By patterns over the text, since a broken attempt need not parse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from standin.words import ARGUMENTS

_DEFINED = re.compile(r"^(@triton\.jit[^\n]*\n)?[ ]*def (\w+)\(([^\n]*)\)", re.M)
_LAUNCHED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\[[^\n]*\]\(")
_CALLED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\(")
_ATTRIBUTE = re.compile(r"(?<![\w.])self\.([A-Za-z_]\w*)")
_SIZE = re.compile(r"^([A-Za-z_]\w*) = ", re.M)
_NUMBER = re.compile(r"^[ ]*([A-Za-z_]\w*)(?:: ?[\w.]+)? ?= ?\d+$", re.M)
_PARAMETER = re.compile(r"([A-Za-z_]\w*)(?:\s*:[^,]*)?(?:,|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """A word may have several roles, or none, as a local. `given` are what functions take and what is set to a number:
    of these the judge reads the name where an attempt fails."""

    kernels: Set[str]
    functions: Set[str]
    attributes: Set[str]
    sizes: Set[str]
    tensors: Set[str]
    given: Set[str]


def roles_in(problem: str, answers: Sequence[str]) -> Roles:
    """Roles in a problem and in any number of answers to it, right or wrong."""
    kernels, functions, given = set[str](), set[str](), set[str]()
    for text in answers:
        for jitted, name, parameters in _DEFINED.findall(text):
            (kernels if jitted else functions).add(name)
            given.update(_PARAMETER.findall(parameters))
        kernels.update(_LAUNCHED.findall(text))
        functions.update(_CALLED.findall(text))
        given.update(_NUMBER.findall(text))
    taken = (parameters for _, name, parameters in _DEFINED.findall(problem) if name == "forward")
    return Roles(
        kernels=kernels,
        functions=functions - kernels,
        attributes={word for text in (problem, *answers) for word in _ATTRIBUTE.findall(text)},
        sizes={*_SIZE.findall(problem), *ARGUMENTS},
        tensors={word for parameters in taken for word in _PARAMETER.findall(parameters)},
        given=given,
    )
