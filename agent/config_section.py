"""What every section of a configuration is built on: strict types, known keys only, mistakes told in one line.

Knows none of the sections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


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


def one_line(error: ValidationError) -> str:
    """The first mistake as `key: what is wrong`, and how many more there are."""
    first, *more = error.errors(include_url=False)
    loc = [str(part) for part in first["loc"]]
    if len(loc) > 1 and loc[0] in ("sampler", "strategy"):
        del loc[1]  # pydantic names the chosen kind there, which is no key
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
        case "model_type" | "model_attributes_type":
            message = f"holds keys and values, not {value!r}"
        case "unbounded" | "unfit":
            pass  # says all there is to say
        case _:
            message = f"{message[0].lower()}{message[1:]}, not {value!r}{_number_hint(value)}"
    rest = f" (and {len(more)} more)" if more else ""
    return f"{'.'.join(loc)}: {message}{rest}"


def _number_hint(value: object) -> str:
    """YAML 1.1 reads 1e-2 as text."""
    if not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f" (YAML reads that as text; write {yaml.safe_dump(number).split()[0]})"
