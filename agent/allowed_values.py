"""Says in words what a key of a configuration may hold: the kind of value, its bounds, and whether null is one.

Reads that off the types of the sections; knows none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

# By the types of error that pydantic has for a value of the wrong kind.
KINDS = {
    "bool_type": "true, false",
    "dict_type": "keys with values, such as {key: value}",
    "float_type": "numbers",
    "int_type": "whole numbers",
    "list_type": "lists, such as [a] or [a, b]",
    "string_type": "text, in quotes where it reads as a number",
}


def allowed_values(section: type[BaseModel], keys: Sequence[str], *, error_type: str) -> str | None:
    """What `section` takes where `keys` lead; None for an error that is not of the kind of value."""
    if error_type not in KINDS:
        return None
    found = [section]
    for key in keys:
        found = [inner for outer in found for inner in _below(outer, key=key)]
    parts = [part for annotation in found for part in _parts(annotation)]
    bounds = [text for part in parts if (text := _bound_text(part)) is not None]
    null = ", null" if NoneType in parts else ""
    return " ".join([KINDS[error_type], *dict.fromkeys(bounds)]) + null


def _below(annotation: Any, *, key: str) -> Iterator[Any]:
    """The types of what `key` is in it: of every section among several that has the key."""
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel) and key in part.model_fields:
            yield part.model_fields[key].rebuild_annotation()
        elif get_origin(part) in (list, dict):
            yield get_args(part)[-1]


def _parts(annotation: Any) -> Iterator[Any]:
    """The members of a union, and what is annotated on them."""
    if isinstance(annotation, FieldInfo):
        yield from annotation.metadata
    elif get_origin(annotation) is Annotated:
        for part in get_args(annotation):
            yield from _parts(part)
    elif get_origin(annotation) in (list, dict) or not get_args(annotation):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _parts(part)


def _bound_text(part: Any) -> str | None:
    match part:
        case annotated_types.Ge(ge=bound):
            return f"from {bound}"
        case annotated_types.Gt(gt=bound):
            return f"above {bound}"
        case annotated_types.Le(le=bound):
            return f"to {bound}"
        case annotated_types.Lt(lt=bound):
            return f"below {bound}"
    return None
