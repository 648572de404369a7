"""What every section of a configuration is built on: strict types, known keys only, mistakes told in one line.

Knows none of the sections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from agent.allowed_values import allowed_values

Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
# The keys that hold one of several kinds of sections.
HAVE_KINDS = [re.compile(text) for text in (r"sampler", r"strategy", r"strategy\.members\.\d+", r"arms\.[^.]+")]


class ConfigError(ValueError):
    """A mistake of the user's in one line: file, key, what is allowed."""


class Section(BaseModel):
    """Frozen and strict; an unknown key is an error that lists the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and (unknown := [str(key) for key in raw if key not in cls.model_fields]):
            context = {"key": unknown[0], "known": ", ".join(cls.model_fields)}
            raise PydanticCustomError("unknown_key", "unknown key {key}; known keys: {known}", context)
        return raw


def one_line(error: ValidationError, *, section: type[BaseModel]) -> str:
    """The first mistake as `key: what is wrong`, and how many more there are. `section` is what was not valid."""
    first, *more = error.errors(include_url=False)
    loc = _keys(first["loc"])
    message, value = first["msg"], first["input"]
    match first["type"]:
        case "unknown_key":
            loc.append(first["ctx"]["key"])
            message = message.replace(f"unknown key {first['ctx']['key']}", "unknown key")
        case "union_tag_invalid":
            loc.append(first["ctx"]["discriminator"].strip("'"))
            message = f"{first['ctx']['tag']!r} is not allowed; allowed: {first['ctx']['expected_tags']}"
        case "union_tag_not_found":
            message = f"needs the key {first['ctx']['discriminator']}"
        case "missing":
            message = "is missing"
        case "unexpected_keyword_argument":
            message = "unknown key"
        case "value_error":
            message = message.removeprefix("Value error, ")  # which says what is allowed
        case "model_type" | "model_attributes_type":
            message = f"holds keys and values, not {value!r}"
        case "too_short":
            message = "is empty"
        case "unbounded" | "unfit":
            pass  # says all there is to say
        case kind:
            message = f"{message[0].lower()}{message[1:]}, not {value!r}{_number_hint(value, whole=kind == 'int_type')}"
            if (allowed := allowed_values(section, loc, error_type=kind)) is not None:
                message = f"{message}; allowed: {allowed}"
    rest = f" (and {len(more)} more)" if more else ""
    where = f"{'.'.join(loc)}: " if loc else ""
    return f"{where}{message}{rest}"


def _keys(parts: Sequence[int | str]) -> list[str]:
    """The keys that lead to a mistake. Pydantic also names the chosen kind, and says `[key]` of a wrong key."""
    keys: list[str] = []
    kind_is_next = False
    for part in parts:
        if part != "[key]" and not kind_is_next:
            keys.append(str(part))
            kind_is_next = any(pattern.fullmatch(".".join(keys)) for pattern in HAVE_KINDS)
        else:
            kind_is_next = False
    return keys


def _number_hint(value: object, *, whole: bool) -> str:
    """YAML 1.1 reads 1e-2 as text."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if whole:
        return f" (YAML reads that as text; write {int(number)})" if number.is_integer() else ""
    return f" (YAML reads that as text; write {yaml.safe_dump(number).split()[0]})"
