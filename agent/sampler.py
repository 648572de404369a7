"""Where completions come from: the protocol every sampler keeps, and the twin that reads them from a file.

Knows nothing of servers, models or prompts' wording.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.token_estimate import CHARACTERS_PER_TOKEN
from sandbox.extract import extract
from sandbox.types import Candidate, Operator, Problem, Proposal

WITHOUT_PARENT = frozenset({Operator.DRAFT})
WITHOUT_MODEL = frozenset({Operator.TUNE, Operator.FIX})


class SamplerError(RuntimeError):
    """No completion after a bounded number of attempts: our fault, the run can be resumed."""


class SamplerRefused(SamplerError):
    """The server will not do what the configuration asks (key, model name): the user's to mend, never retried."""


class PromptRefused(RuntimeError):
    """There is no answer to this one prompt, while others may have one: the server finds it too long, or fails over
    it."""


class SamplerExhausted(RuntimeError):
    """The recorded completions for this request are used up."""


class RecordingError(ValueError):
    """A file of recorded completions is not usable. One line naming file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """One completion asked for.

    `ordinal` is how many earlier proposals of this search had the same operator; `repeat` is how many of those also had
    the same parents. `parents` are nearest first. `seed` is for this sample alone.
    """

    problem: Problem
    proposal: Proposal
    ordinal: int
    prompt: str
    parents: tuple[Candidate, ...]
    seed: int
    repeat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model answered, as it was. `tokens_estimated` says that a count was reckoned from the text's length.

    `token_ids` are the answer's, with the one that ended it; None where the server tells none. `sampler` is the kind
    and the model that answered, as in `http facebook/KernelLLM`; None where nobody says.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool = False
    token_ids: tuple[int, ...] | None = None
    sampler: str | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens < 0 or self.completion_tokens < 0:
            raise ValueError("token counts must not be negative")


class Sampler(Protocol):
    """Gives one completion a request. May be called many times at once."""

    async def sample(self, request: SampleRequest) -> Completion:
        """Raises SamplerExhausted or PromptRefused when there is no answer, SamplerError when none could be had."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class SlowToStart(Protocol):
    """A sampler that loads a model first. Who samples at once waits for that; this only tells when it is done."""

    async def wait_until_up(self) -> object:
        """Raises SamplerError."""
        ...


def estimate_tokens(text: str) -> int:
    """A token count from length alone, for servers and recordings that give none."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def completion_of(
    text: str,
    *,
    prompt: str,
    finish_reason: str | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    sampler: str,
) -> Completion:
    """A completion whose missing counts are estimated, and which says so."""
    return Completion(
        text=text,
        finish_reason=finish_reason,
        prompt_tokens=estimate_tokens(prompt) if prompt_tokens is None else prompt_tokens,
        completion_tokens=estimate_tokens(text) if completion_tokens is None else completion_tokens,
        tokens_estimated=prompt_tokens is None or completion_tokens is None,
        sampler=sampler,
    )


class RecordedLine(BaseModel):
    """One line of a recording. `parent` is the id of the recorded completion that this one starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1)]
    problem: Annotated[str, Field(min_length=1)]
    operator: Annotated[Operator, Field(strict=False)]
    completion: str
    parent: str | None = None
    finish_reason: str | None = None
    prompt_tokens: Annotated[int, Field(ge=0)] | None = None
    completion_tokens: Annotated[int, Field(ge=0)] | None = None


class RecordedSampler:
    """Answers from a JSONL file, as a function of the request and not of the order of calls.

    A draft gets the problem's draft line number `ordinal`. Every other operator gets line number `repeat` among the
    lines of that operator whose parent's extracted source is the source of the request's nearest parent. The seed and
    the prompt's wording have no effect.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads and checks the whole file. Raises RecordingError."""
        self._path = Path(path)
        lines = load_recording(self._path)
        self._drafts: dict[str, list[RecordedLine]] = {}
        self._followers: dict[tuple[str, Operator, str], list[RecordedLine]] = {}
        for line in lines.values():
            if line.parent is None:
                self._drafts.setdefault(line.problem, []).append(line)
                continue
            for source in candidate_sources(lines[line.parent]):
                self._followers.setdefault((line.problem, line.operator, source), []).append(line)

    async def sample(self, request: SampleRequest) -> Completion:
        lines, index = self._lines_for(request)
        if index >= len(lines):
            raise SamplerExhausted(
                f"{self._path}: {len(lines)} {request.proposal.operator} line(s) recorded for this request of problem "
                f"{request.problem.id}, and number {index + 1} was asked for"
            )
        line = lines[index]
        return completion_of(
            line.completion,
            prompt=request.prompt,
            finish_reason=line.finish_reason,
            prompt_tokens=line.prompt_tokens,
            completion_tokens=line.completion_tokens,
            sampler="recorded",
        )

    async def close(self) -> None:
        """Nothing is held open."""

    def _lines_for(self, request: SampleRequest) -> tuple[Sequence[RecordedLine], int]:
        operator = request.proposal.operator
        if operator in WITHOUT_PARENT:
            return self._drafts.get(request.problem.id, []), request.ordinal
        if not request.parents:
            raise ValueError(f"a request to {operator} needs the parent candidate")
        key = (request.problem.id, operator, request.parents[0].source.strip())
        return self._followers.get(key, []), request.repeat


def candidate_sources(line: RecordedLine) -> frozenset[str]:
    """The sources that a candidate made from this completion may have, outer white space aside.

    An answer without code may stand as its own text or as nothing.
    """
    source = extract(line.completion, finish_reason=line.finish_reason).source
    return frozenset({line.completion.strip(), ""}) if source is None else frozenset({source.strip()})


def load_recording(path: Path) -> dict[str, RecordedLine]:
    """The lines of a recording by id, in file order. Raises RecordingError, one line, naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
    lines: dict[str, RecordedLine] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        line = _parse_line(raw, where=f"{path}:{number}")
        if fault := _fault_of(line, earlier=lines):
            raise RecordingError(f"{path}:{number}: {fault}")
        lines[line.id] = line
    if not lines:
        raise RecordingError(f"{path}: holds no recorded completion")
    return lines


def _parse_line(raw: str, *, where: str) -> RecordedLine:
    try:
        return RecordedLine.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(RecordedLine.model_fields)
        hint = f" (known keys: {known})" if first["type"] == "extra_forbidden" else ""
        raise RecordingError(f"{where}: {key + ': ' if key else ''}{first['msg']}{hint}") from error


def _fault_of(line: RecordedLine, *, earlier: Mapping[str, RecordedLine]) -> str | None:
    """What is wrong with a well-formed line beside the lines before it, or None."""
    if line.id in earlier:
        return f"id: {line.id!r} stands on an earlier line too"
    if line.operator in WITHOUT_MODEL:
        return f"operator: {line.operator} asks no model"
    if line.operator in WITHOUT_PARENT:
        return None if line.parent is None else f"parent: a {line.operator} has none"
    if line.parent is None:
        return f"parent: a {line.operator} needs the id of the completion it starts from"
    if line.parent not in earlier:
        return f"parent: {line.parent!r} is not the id of an earlier line"
    if earlier[line.parent].problem != line.problem:
        return f"parent: {line.parent!r} is about problem {earlier[line.parent].problem!r}"
    return None
